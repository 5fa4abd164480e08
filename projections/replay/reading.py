"""What verify reads from Redis, in pages, the next one asked for while one is being worked on."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Final, TypeVar

from msgspec import Struct

from core import functions
from core.keys import ShardKeys
from core.redis import answering
from core.store import EventStore
from projections.replay.subjects import Seen, seen_of

LOG_PAGE: Final = 1_000
SUBJECTS_PAGE: Final = 300
_ITEMS_PAGE: Final = 500
_TURNS_TO_SEND: Final = 4  # Of the event loop, to take a connection and write to it.

Answer = TypeVar("Answer")


class Look(Struct):
    """Some subjects and lane entries at one moment, when the log went up to `last`."""

    last: str
    now_ms: int
    subjects: list[Seen]
    holders: list[str | None]  # Whose each of the entries is that were asked for.


async def log_pages(
    store: EventStore, shard: int, after: str, until: str = "+"
) -> AsyncIterator[list[Any]]:
    """The raw entries of a log after one and up to another. Raises StoreUnavailable."""
    log = store.shards[shard].log

    async def read(start: str) -> list[Any]:
        async with answering():
            page: list[Any] = await store.client.execute_command(
                "XRANGE", log, f"({start}", until, "COUNT", LOG_PAGE
            )
        return page

    reading = asyncio.create_task(read(after))
    try:
        while raws := await reading:
            is_last = len(raws) < LOG_PAGE
            if not is_last:
                reading = await _begun(read(raws[-1][0].decode()))
            yield raws
            if is_last:
                return
    finally:
        reading.cancel()


async def _begun(asking: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
    """A task whose request is on its way, so that Redis works on it while we do on the last answer."""
    task = asyncio.create_task(asking)
    for _ in range(_TURNS_TO_SEND):
        await asyncio.sleep(0)
    return task


async def looks(store: EventStore, keys: ShardKeys, subjects: Sequence[str]) -> AsyncIterator[Look]:
    """All of these subjects, page by page. Raises StoreUnavailable."""
    pages = [
        subjects[first : first + SUBJECTS_PAGE] for first in range(0, len(subjects), SUBJECTS_PAGE)
    ]
    if not pages:
        return
    looking = asyncio.create_task(look(store, keys, pages[0]))
    try:
        for after in [*pages[1:], None]:
            seen = await looking
            if after is not None:
                looking = await _begun(look(store, keys, after))
            yield seen
    finally:
        looking.cancel()


async def look(
    store: EventStore,
    keys: ShardKeys,
    subjects: Sequence[str],
    entries: Sequence[tuple[str, str]] = (),
) -> Look:
    """Subjects, and lane entries by the lane's name, all at one moment. Raises StoreUnavailable."""
    ask = {
        "prefix": keys.prefix,
        "subjects": list(subjects),
        "entries": [(f"{keys.prefix}ready:{lane}", entry) for lane, entry in entries],
    }
    last, now_ms, seen, holders = await functions.call(
        store.client, "seen", [keys.log, keys.timers], ask
    )
    return Look(
        last.decode(),
        now_ms,
        [seen_of(subject, reply) for subject, reply in zip(subjects, seen, strict=True)],
        [holder and holder.decode() for holder in holders],
    )


async def lane_entries(
    store: EventStore, keys: ShardKeys, lane: str
) -> AsyncIterator[list[tuple[str, str]]]:
    """The entries of a lane and whose they are, page by page. Raises StoreUnavailable."""
    after = "-"
    while True:
        async with answering():
            page = await store.client.execute_command(
                "XRANGE", f"{keys.prefix}ready:{lane}", after, "+", "COUNT", _ITEMS_PAGE
            )
        yield [
            (entry.decode(), fields.get(b"j", b"").decode(errors="replace"))
            for entry, fields in page
        ]
        if len(page) < _ITEMS_PAGE:
            return
        after = f"({page[-1][0].decode()}"


async def pending_entries(
    store: EventStore, keys: ShardKeys, lane: str, group: str
) -> AsyncIterator[list[str]]:
    """The entries that are pending in a lane, page by page. Raises StoreUnavailable."""
    after = "-"
    while True:
        async with answering():
            page = await store.client.execute_command(
                "XPENDING",
                f"{keys.prefix}ready:{lane}",
                group,
                after,
                "+",
                _ITEMS_PAGE,
                parse_detail=True,
            )
        yield [row["message_id"].decode() for row in page]
        if len(page) < _ITEMS_PAGE:
            return
        after = f"({page[-1]['message_id'].decode()}"


async def scanned(
    store: EventStore, command: str, key: str
) -> AsyncIterator[list[tuple[str, Any]]]:
    """Everything in a hash (HSCAN) or a sorted set (ZSCAN), in pairs; some of it twice.

    Raises StoreUnavailable.
    """
    client: Any = store.client  # Its annotations cannot say that replies are bytes.
    scan = client.hscan if command == "HSCAN" else client.zscan
    cursor = 0
    while True:
        async with answering():
            cursor, page = await scan(key, cursor, count=_ITEMS_PAGE)
        pairs = page.items() if isinstance(page, dict) else page
        yield [(name.decode(errors="replace"), value) for name, value in pairs]
        if not cursor:
            return
