"""What verify reads from Redis, in pages, the next one asked for while one is being worked on."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from msgspec import Struct

from core import functions
from core.keys import ShardKeys
from core.redis import answering
from core.store import EventStore
from projections.replay.subjects import Seen, SeenHead, head_seen, seen_of, texts_of

LOG_PAGE: Final = 500
SUBJECTS_PAGE: Final = 300
_ITEMS_PAGE: Final = 500
_HEADS_AHEAD: Final = 3  # Pages: Redis takes as long to find heads as we take to compare them.
_TURNS_TO_SEND: Final = 4  # Of the event loop, to take a connection and write to it.

Answer = TypeVar("Answer")
Page = TypeVar("Page")
Place = TypeVar("Place", str, int)  # Where a page begins.


class Heads(Struct):
    """The heads of some subjects at one moment."""

    now_ms: int
    seen: list[SeenHead]


class Look(Struct):
    """Some subjects and lane entries at one moment, when the log went up to `last`."""

    last: str
    now_ms: int
    subjects: list[Seen]
    holders: list[str | None]  # Whose each of the entries is that were asked for.


async def _pages(
    ask: Callable[[Place], Coroutine[Any, Any, tuple[Page, Place | None]]], first: Place
) -> AsyncGenerator[Page, None]:
    """Pages, the first from one place on; each says where the next begins, or that it is the last."""
    asking = asyncio.create_task(ask(first))
    try:
        while True:
            page, after = await asking
            if after is not None:
                asking = await _begun(ask(after))
            yield page
            if after is None:
                return
    finally:
        asking.cancel()


async def _begun(asking: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
    """A task whose request is on its way, so that Redis works on it while we do on the last answer."""
    task = asyncio.create_task(asking)
    for _ in range(_TURNS_TO_SEND):
        await asyncio.sleep(0)
    return task


def log_pages(
    store: EventStore, shard: int, after: str, until: str = "+"
) -> AsyncGenerator[list[Any], None]:
    """The raw entries of a log after one and up to another. Raises StoreUnavailable."""
    log = store.shards[shard].log

    async def ask(start: str) -> tuple[list[Any], str | None]:
        async with answering():
            page: list[Any] = await store.client.execute_command(
                "XRANGE", log, f"({start}", until, "COUNT", LOG_PAGE
            )
        return page, page[-1][0].decode() if len(page) == LOG_PAGE else None

    return _pages(ask, after)


async def heads(
    store: EventStore, keys: ShardKeys, subjects: Sequence[str]
) -> AsyncGenerator[Heads, None]:
    """The heads of all of these subjects, page by page. Raises StoreUnavailable."""

    async def ask(page: Sequence[str]) -> Heads:
        now_ms, replies = await functions.call(
            store.client, "seen_heads", [keys.log], {"prefix": keys.prefix, "subjects": page}
        )
        return Heads(
            now_ms,
            [head_seen(subject, *reply) for subject, reply in zip(page, replies, strict=True)],
        )

    begun: deque[asyncio.Task[Heads]] = deque()
    try:
        for first in range(0, len(subjects), SUBJECTS_PAGE):
            begun.append(await _begun(ask(subjects[first : first + SUBJECTS_PAGE])))
            if len(begun) == _HEADS_AHEAD:
                yield await begun.popleft()
        while begun:
            yield await begun.popleft()
    finally:
        for asking in begun:
            asking.cancel()


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


def lane_entries(
    store: EventStore, keys: ShardKeys, lane: str
) -> AsyncIterator[list[tuple[str, str]]]:
    """The entries of a lane and whose they are, page by page. Raises StoreUnavailable."""

    async def ask(after: str) -> tuple[list[tuple[str, str]], str | None]:
        async with answering():
            page = await store.client.execute_command(
                "XRANGE", f"{keys.prefix}ready:{lane}", after, "+", "COUNT", _ITEMS_PAGE
            )
        entries = [
            (entry.decode(), fields.get(b"j", b"").decode(errors="replace"))
            for entry, fields in page
        ]
        return entries, f"({entries[-1][0]}" if len(page) == _ITEMS_PAGE else None

    return _pages(ask, "-")


def pending_entries(
    store: EventStore, keys: ShardKeys, lane: str, group: str
) -> AsyncIterator[list[str]]:
    """The entries that are pending in a lane, page by page. Raises StoreUnavailable."""

    async def ask(after: str) -> tuple[list[str], str | None]:
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
        entries = [row["message_id"].decode() for row in page]
        return entries, f"({entries[-1]}" if len(page) == _ITEMS_PAGE else None

    return _pages(ask, "-")


def scanned(store: EventStore, command: bytes, key: str) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Everything in a hash (HSCAN) or a sorted set (ZSCAN), in pairs; some of it twice.

    Values and scores are as Redis has them: redis-py passes on what it gets for a command that it is
    given in bytes, and else makes a float of each score. Raises StoreUnavailable.
    """

    async def ask(cursor: int) -> tuple[list[tuple[str, bytes]], int | None]:
        async with answering():
            after, flat = await store.client.execute_command(
                command, key, cursor, "COUNT", _ITEMS_PAGE
            )
        return list(zip(texts_of(flat[::2]), flat[1::2], strict=True)), int(after) or None

    return _pages(ask, 0)
