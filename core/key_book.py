"""API keys in Redis: a stream of what happened to each, which is never trimmed, and what follows from it.

What happened to a key is as good as the log's events, but no part of the log: that is trimmed with its
jobs, and folded by every release. Here all is read by whoever asks, from the start, and then what is new.
"""

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from core import functions
from core.api_keys import PREFIX, ApiKey, KeyEvent, KeyMade, evolve_key, key_of, read_key_event
from core.errors import StoreError, StoreNotReady, Unreadable
from core.head import milliseconds_of
from core.keys import API_KEYS, API_KEYS_BELL_NAME, BELL, META

log = logging.getLogger(__name__)

_PER_READ: Final = 1_000
_SECRET_BYTES: Final = 32


def new_secret() -> str:
    """A secret for a key, which nobody guesses."""
    return PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def new_key_id() -> str:
    """An id for a key, which is no secret."""
    return f"key_{secrets.token_hex(5)}"


class NameTaken(StoreError):
    """There is, or was, a key of that name."""


class KeyBook:
    """All keys that there ever were, as far as this process has read of them."""

    def __init__(self, client: Redis, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._monotonic = monotonic
        self._read_to = ""  # The last entry; empty if there was none.
        self._clock_ms = 0.0  # The store's clock when ours was at nought.
        self.keys: dict[str, ApiKey] = {}
        self._names: dict[str, str] = {}
        self._read_at = float("-inf")  # When the last read began, by our clock.

    def now_ms(self) -> float:
        """The store's time, in milliseconds since 1970."""
        return self._clock_ms + self._monotonic() * 1_000

    def age_seconds(self) -> float:
        """How long ago the keys were last read; infinite if they never were."""
        return self._monotonic() - self._read_at

    def named(self, name: str) -> ApiKey | None:
        """The key with a name, or with an id."""
        return self.keys.get(self._names.get(name, name))

    @property
    def has_live(self) -> bool:
        """Say whether any key is good for anything."""
        now_ms = self.now_ms()
        return any(key.is_live(now_ms) for key in self.keys.values())

    async def catch_up(self) -> bool:
        """Read what is new; False if nothing is. Raises StoreUnavailable, StoreNotReady.

        The last entry that is known is read again: if it is gone, the store has lost its tail, or is
        another one, and everything is read anew.
        """
        began, has_changed = self._monotonic(), False
        while True:
            entries = await self._read()
            if self._read_to and (not entries or entries[0][0].decode() != self._read_to):
                log.error("API keys are read anew: the store no longer has what it had of them")
                self._read_to, self.keys, self._names = "", {}, {}
                has_changed = True
                continue
            new = entries[1:] if self._read_to else entries
            for entry_id, fields in new:
                self._note(entry_id.decode(), fields.get(b"e", b""))
            has_changed |= bool(new)
            if len(entries) < _PER_READ:
                self._read_at = began
                return has_changed

    async def record(self, event: KeyEvent) -> ApiKey:
        """Write what happened to a key; the key after it.

        Raises NameTaken for a new key whose name was first used by another, StoreError.
        """
        await self.catch_up()
        if isinstance(event, KeyMade) and event.name in self._names:
            raise _taken(event.name)
        ask = {"bell": BELL + API_KEYS_BELL_NAME}
        await functions.call(
            self._client, "record_key", [API_KEYS], ask, [msgspec.json.encode(event)]
        )
        await self.catch_up()
        if event.key not in self.keys:  # Somebody made one of that name at the same time.
            raise _taken(event.name if isinstance(event, KeyMade) else event.key)
        return self.keys[event.key]

    async def _read(self) -> list[Any]:
        read = ("XRANGE", API_KEYS, self._read_to or "-", "+", "COUNT", _PER_READ)
        commands = [("TIME",), ("EXISTS", META), read]
        time_of, is_a_store, entries = await functions.pipeline(self._client, commands)
        if not is_a_store:  # Or an emptied Redis would look like one in which nobody has a key.
            raise StoreNotReady("there is no store: run `respool migrate`")
        seconds, microseconds = time_of
        now_ms = int(seconds) * 1_000 + int(microseconds) / 1_000
        self._clock_ms = now_ms - self._monotonic() * 1_000
        return list(entries)

    def _note(self, entry_id: str, stored: bytes) -> None:
        """Take one event in.

        One that this release cannot read puts its key out of force here, whatever it says: better
        refused than good for what it no longer is.
        """
        self._read_to = entry_id
        try:
            event = read_key_event(stored)
            if isinstance(event, KeyMade) and event.name in self._names:
                return  # Two were made at the same time, and the other was first.
            key = evolve_key(self.keys.get(event.key), event, milliseconds_of(entry_id))
        except Unreadable as error:
            log.warning("%s of the API keys: %s", entry_id, error)
            known = self.keys.get(key_of(stored) or "")
            if known is not None:
                self.keys[known.id] = msgspec.structs.replace(known, is_newer=True)
            return
        self.keys[key.id] = key
        self._names[key.name] = key.id


def _taken(name: str) -> NameTaken:
    return NameTaken(f"there is, or was, a key named {name!r}: every key has its own name")
