"""An API that requires keys starts only if there is one."""

from typing import Any

import httpx
import pytest

from cli.roles.api import running_api
from core.access import Scope
from core.api_keys import KeyMade, KeyRevoked, digest_of
from core.key_book import KeyBook, new_key_id
from core.settings import Settings, SettingsError
from core.store import EventStore
from tests.servers import RedisServer


async def starts(server: RedisServer, **fields: Any) -> None:
    """Start an API that requires keys. Raises SettingsError."""
    settings = Settings(api_port=0, openai_api_key_required=True, **fields)
    async with running_api(settings, server.url) as url, httpx.AsyncClient() as client:
        assert (await client.get(f"{url}/v1/jobs")).status_code == 401


async def refuses(server: RedisServer) -> None:
    """It does not start, and says both ways out."""
    with pytest.raises(SettingsError, match=r"set OPENAI_API_KEY .* `respool keys make NAME`"):
        await starts(server)


def made(name: str, **fields: Any) -> KeyMade:
    scopes, digest = (Scope.READ,), digest_of(name)
    return KeyMade(key=new_key_id(), by="us", name=name, scopes=scopes, digest=digest, **fields)


async def test_without_any_key_it_does_not_start(store: EventStore, server: RedisServer) -> None:
    await refuses(server)


async def test_with_the_operators_key_it_starts(
    store: EventStore, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await starts(server, openai_api_key="of-the-operator")
    assert "OPENAI_API_KEY has fewer than 20 characters" in caplog.text
    assert "of-the-operator" not in caplog.text
    caplog.clear()
    await starts(server, openai_api_key="x" * 20)
    assert "OPENAI_API_KEY" not in caplog.text


async def test_with_a_live_key_in_the_store_it_starts(
    store: EventStore, server: RedisServer
) -> None:
    book = KeyBook(store.client)
    await book.record(made("expired", expires_in_ms=0))
    key = await book.record(made("mine"))
    await starts(server)
    await book.record(KeyRevoked(key=key.id, by="us"))
    await refuses(server)
