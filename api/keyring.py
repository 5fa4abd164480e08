"""The API keys that this process knows, so that no request has to ask Redis whose it is."""

import logging
from hmac import compare_digest
from typing import Final

from msgspec import Struct

from core.access import DEFAULT_TENANT, Caller, Scope
from core.api_keys import digest_of
from core.bells import Bells
from core.errors import StoreError, StoreUnavailable
from core.key_book import KeyBook
from core.keys import API_KEYS_BELL_NAME
from core.trouble import Trouble

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS: Final = 2.0  # A change is heard of at once; this is for bells that are missed.
TRUSTED_SECONDS: Final = 60.0  # For so long keys are good without the store.

OPERATOR: Final = Caller(
    tenant=DEFAULT_TENANT, sees=None, scopes=frozenset(Scope), key="operator", name="operator"
)
FOREVER: Final = float("inf")


class _Good(Struct, frozen=True):
    """A secret that is good for something."""

    caller: Caller
    until_ms: float


class Keyring:
    """Whose key is whose: a table of the secrets' hashes, made anew whenever a key has changed.

    A secret is looked up by its hash. How long that takes tells at most something of the hash, which
    leads nobody back to the secret.
    """

    def __init__(self, book: KeyBook, bells: Bells, operator_key: str | None) -> None:
        self._book = book
        self._bells = bells
        self._operator = None if operator_key is None else digest_of(operator_key)
        self._good: dict[str, _Good] = {}  # By digest.
        self._until_ms: dict[str, float] = {OPERATOR.key or "": FOREVER}  # By the key's id.

    def caller(self, secret: bytes) -> Caller | None:
        """Whoever has the key with this secret; None if no key has it, or none that is live.

        Raises StoreUnavailable if that cannot be said, as the keys were not read for too long.
        """
        digest = digest_of(secret)
        if self._operator is not None and compare_digest(digest, self._operator):
            return OPERATOR
        book = self._book
        if book.age_seconds() > TRUSTED_SECONDS:
            raise StoreUnavailable(f"API keys could not be read for {TRUSTED_SECONDS:g} s")
        good = self._good.get(digest)
        return good.caller if good is not None and book.now_ms() < good.until_ms else None

    def is_live(self, caller: Caller) -> bool:
        """Say whether a caller's key is still good, as far as this process knows."""
        return caller.key is None or self._book.now_ms() < self._until_ms.get(caller.key, 0.0)

    async def look(self) -> None:
        """Read what has changed. Raises StoreError."""
        if await self._book.catch_up():
            self._make_table()

    async def run(self) -> None:
        """Keep up with the store, for ever."""
        trouble = Trouble(log, "API keys cannot be read")
        async with self._bells.hear(API_KEYS_BELL_NAME) as bell:
            while True:
                try:
                    await self.look()
                    trouble.is_over()
                except StoreError as error:
                    trouble.is_there(error)
                await bell.wait(LOOK_EVERY_SECONDS)

    def _make_table(self) -> None:
        now_ms = self._book.now_ms()
        live = [key for key in self._book.keys.values() if key.is_live(now_ms)]
        self._until_ms = {key.id: key.expires_ms or FOREVER for key in live}
        self._until_ms[OPERATOR.key or ""] = FOREVER
        self._good = {
            secret.digest: _Good(
                key.caller, min(secret.until_ms or FOREVER, key.expires_ms or FOREVER)
            )
            for key in live
            for secret in key.secrets
        }
