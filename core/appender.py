"""Appends as one function takes them: many at a time, each written whole or not at all.

A record says what its caller saw and what is to be written; `core/lua/append.lua` has the other side.
Each has an operation id, by which a batch that is sent again is answered and not repeated.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from core import functions
from core.batching import Batcher
from core.events import Event
from core.fleet import Queue, Worker
from core.head import changes
from core.keys import ShardKeys
from core.log import tag_of
from core.states import Job
from core.upcast import READABLE_FROM, SCHEMA, stamp

_PROCESS: Final = secrets.token_urlsafe(6)
_counter = itertools.count(1)


State = Job | Worker | Queue


class Take(Struct, frozen=True):
    """What an append takes out of buckets, or is refused for."""

    buckets: str  # The key.
    of: tuple[tuple[str, int, int], ...]  # A bucket's name, what it holds when full, what is taken.
    keep_ms: int  # How long the buckets are kept after this.


class Record(Struct, kw_only=True):
    """One append. Keys and bodies are named here, and by their index once it is in a batch."""

    subject: str
    expected: int  # The version that the caller saw; 0 for none.
    op: str
    head: str
    events: list[tuple[str, bytes]]
    set: list[str | int]
    clear: list[str]
    schema: int
    after: State  # Not sent, but for `rewriting`.
    rewrite: bool = (
        False  # An older release wrote the head: `set` has all fields that it is to have.
    )
    owner: str | None = None  # The consumer that must hold `entry`, pending in `lane`.
    entry: str | None = None
    lane: str | None = None
    fence: tuple[int, str] | None = None  # The claim number that must be current, and its worker.
    leave: str | None = None
    enter: tuple[str, str, str] | None = None  # The lane's key, its name, and whom it serves.
    arm: list[dict[str, Any]] = []
    disarm: list[str] = []
    counts: list[tuple[str, int]] = []
    limits: list[tuple[str, int]] = []  # Counts, and what each must be below.
    take: Take | None = None
    spend: tuple[str, str, int] | None = None  # Buckets, which of them, and what was used of it.
    idempotency: tuple[str, str, int] | None = None  # Key, value, milliseconds to keep it.
    expires_ms: int | None = None  # From now on; None: for ever.
    persist: bool = False  # The head had an expiry, and has it no more.
    revives: bool = (
        False  # The head may have expired: `set` has all of it, so that it is there again.
    )
    register: bool = False
    pause: tuple[str, bool] | None = None  # A queue, and whether it is paused from now on.
    ring: str | None = None  # A bell to ring besides the subject's own.


def new_record(
    keys: ShardKeys, subject: str, before: State | None, events: Sequence[Event], after: State
) -> Record:
    """The record of `events`, which led from one state to the next, without any effects yet."""
    to_set, to_clear = changes(before, after)
    if before is None:
        to_set += _flat(stamp())
    return Record(
        subject=subject,
        expected=0 if before is None else before.version,
        op=f"{_PROCESS}{next(_counter):x}",
        head=keys.head(subject),
        events=[(tag_of(event), msgspec.json.encode(event)) for event in events],
        set=to_set,
        clear=to_clear,
        schema=SCHEMA,
        after=after,
    )


def rewriting(record: Record) -> Record:
    """The same append to a head that an older release wrote, and which thereby becomes this one's."""
    to_set, _ = changes(None, record.after)
    return msgspec.structs.replace(record, set=to_set + _flat(stamp()), rewrite=True)


def _flat(fields: dict[str, int]) -> list[str | int]:
    return [word for pair in fields.items() for word in pair]


class Appender:
    """Sends records to one shard through one function (`append`, or `submit`)."""

    def __init__(
        self,
        client: Redis,
        function: str,
        keys: ShardKeys,
        patience_seconds: float,
        watermark_percent: int | None = None,
    ) -> None:
        self._client = client
        self._function = function
        self._shared_keys = [
            keys.log,
            keys.sequence,
            keys.counts,
            keys.timers,
            keys.lanes,
            keys.hungry,
            keys.subjects,
            keys.paused,
        ]
        self._watermark_percent = watermark_percent
        self.newest_written = "0-0"  # The last log entry that Redis has confirmed.
        self._batcher = Batcher(self._call, _size_bytes, patience_seconds)

    def send(self, record: Record) -> asyncio.Future[list[Any]]:
        """Queue a record; the future gets its reply, or StoreUnavailable once patience has run out."""
        return self._batcher.send(record)

    async def _call(self, records: list[Record]) -> list[list[Any]]:
        keys, ask, bodies = self.arguments(records)
        replies: list[list[Any]] = await functions.call(
            self._client, self._function, keys, ask, bodies
        )
        for reply in reversed(replies):
            if reply[0] == b"ok":
                self.newest_written = reply[-1].decode()
                break
        return replies

    def arguments(self, records: list[Record]) -> tuple[list[str], dict[str, Any], list[bytes]]:
        """A batch as the function takes it: keys, ask and bodies."""
        keys = list(self._shared_keys)
        bodies: list[bytes] = []

        def key_index(key: str) -> int:
            keys.append(key)
            return len(keys)

        def body_index(data: bytes) -> int:
            bodies.append(data)
            return len(bodies) + 1  # ARGV[1] is the ask.

        asks = [_ask(record, key_index, body_index) for record in records]
        return keys, {"watermark": self._watermark_percent, "records": asks}, bodies


def _size_bytes(record: Record) -> int:
    return sum(len(data) for _, data in record.events)


# Fields that need no key or body of their own; absent means no.
_SENT_AS_THEY_ARE: Final = (
    "counts",
    "clear",
    "arm",
    "disarm",
    "fence",
    "limits",
    "expires_ms",
    "persist",
    "revives",
    "register",
    "pause",
    "ring",
    "rewrite",
)
_read_as_they_are: Final = attrgetter(*_SENT_AS_THEY_ARE)


def _ask(
    record: Record, key_index: Callable[[str], int], body_index: Callable[[bytes], int]
) -> dict[str, Any]:
    """A record as the function takes it."""
    ask: dict[str, Any] = {
        "subject": record.subject,
        "expected": record.expected,
        "op": record.op,
        "head": key_index(record.head),
        "events": [(tag, body_index(data)) for tag, data in record.events],
        "set": record.set,
        "schema": record.schema,
        "readable_from": READABLE_FROM,
    }
    values = zip(_SENT_AS_THEY_ARE, _read_as_they_are(record), strict=True)
    ask |= {name: value for name, value in values if value}
    if record.owner is not None and record.lane is not None:
        ask |= {"owner": record.owner, "entry": record.entry, "lane": key_index(record.lane)}
    if record.leave is not None:
        ask["leave"] = key_index(record.leave)
    if record.enter is not None:
        key, name, serves = record.enter
        ask["enter"] = {"key": key_index(key), "name": name, "serves": serves}
    if record.idempotency is not None:
        key, value, expires_ms = record.idempotency
        ask["idempotency"] = {"key": key_index(key), "value": value, "expires_ms": expires_ms}
    if record.take is not None:
        take = record.take
        ask["take"] = {
            "key": key_index(take.buckets),
            "buckets": take.of,
            "keep_ms": take.keep_ms,
        }
    if record.spend is not None:
        key, name, used = record.spend
        ask["spend"] = (key_index(key), name, used)
    return ask
