"""API keys for the API's tests."""

from typing import Any

from core.access import Scope
from core.api_keys import ApiKey, KeyMade, KeyRevoked, digest_of
from core.key_book import KeyBook, new_key_id, new_secret
from core.store import EventStore

OPERATOR = "the-operators-own-key"
EVERYTHING = tuple(Scope)


def bearer(secret: str) -> dict[str, str]:
    """The header that a key is sent in."""
    return {"Authorization": f"Bearer {secret}"}


async def a_key(
    store: EventStore,
    name: str = "a-key",
    scopes: tuple[Scope, ...] = EVERYTHING,
    **fields: Any,
) -> str:
    """Make a key; its secret."""
    secret = new_secret()
    made = KeyMade(
        key=new_key_id(),
        by="a test",
        name=name,
        scopes=scopes,
        digest=digest_of(secret),
        **fields,
    )
    await KeyBook(store.client).record(made)
    return secret


async def revoke(store: EventStore, name: str) -> ApiKey:
    """Revoke the key of that name."""
    book = KeyBook(store.client)
    await book.catch_up()
    key = book.named(name)
    assert key is not None
    return await book.record(KeyRevoked(key=key.id, by="a test"))
