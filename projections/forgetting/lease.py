"""The lease on archiving a shard, for as long as its log and its archive are written anew.

An archiver has entries in its hands that it read before, and would put them into a new segment afterwards. So
whoever takes something out waits until none is at work, and keeps them from it meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from core import functions
from core.errors import StoreError, StoreUnavailable
from core.keys import ShardKeys
from core.store import EventStore
from projections.archive.archiver import LEASE_MS

_POLL_SECONDS: Final = 0.5
_RENEW_SECONDS: Final = LEASE_MS / 1_000 / 4
# An archiver that works lets go within a few seconds; one that was killed holds its lease until it runs out.
_PATIENCE_SECONDS: Final = LEASE_MS / 1_000 * 1.5

Waiting = Callable[[str], None]


@asynccontextmanager
async def archiving_held(
    store: EventStore, keys: ShardKeys, holder: str, waiting: Waiting
) -> AsyncIterator[None]:
    """Hold the lease, waiting for it if need be; `waiting` hears whose it is.

    Raises StoreUnavailable if that takes too long; what is done meanwhile is cancelled if the lease is lost.
    """
    await _take(store, keys, holder, waiting)
    task = asyncio.current_task()
    assert task is not None
    is_lost = False

    async def keep() -> None:
        nonlocal is_lost
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            if not await _renewed(store, keys, holder):
                is_lost = True
                task.cancel()
                return

    keeping = asyncio.create_task(keep())
    try:
        yield
    except asyncio.CancelledError:
        if is_lost:
            task.uncancel()
            raise StoreUnavailable(
                f"the lease on archiving shard {keys.shard} was lost, as Redis was away for too long; "
                "so it stopped. Run it again: it goes on where it was"
            ) from None
        raise
    finally:
        keeping.cancel()
        with suppress(StoreError):  # Else it runs out.
            await functions.call(
                store.client, "archive_release", [keys.archived], {"holder": holder}
            )


async def _take(store: EventStore, keys: ShardKeys, holder: str, waiting: Waiting) -> None:
    loop = asyncio.get_running_loop()
    until, said = loop.time() + _PATIENCE_SECONDS, ""
    while (other := await _asked(store, keys, holder)) is not None:
        if other != said:
            waiting(other)
            said = other
        if loop.time() >= until:
            raise StoreUnavailable(
                f"{other} archives shard {keys.shard}, and does not let go. Stop it, or upgrade it: "
                "a release before this one does not know that it is waited for"
            )
        await asyncio.sleep(_POLL_SECONDS)


async def _renewed(store: EventStore, keys: ShardKeys, holder: str) -> bool:
    """Renew the lease; whether it is ours. A Redis that is away for a moment takes it from nobody."""
    loop = asyncio.get_running_loop()
    until = loop.time() + LEASE_MS / 1_000 / 2
    while True:
        try:
            return await _asked(store, keys, holder) is None
        except StoreError:
            if loop.time() >= until:
                return False
            await asyncio.sleep(_POLL_SECONDS)


async def _asked(store: EventStore, keys: ShardKeys, holder: str) -> str | None:
    """Who holds the lease, if it is not ours."""
    ask = {"holder": holder, "lease_ms": LEASE_MS, "waits": True}
    reply = await functions.call(store.client, "archive_lease", [keys.archived], ask)
    return None if reply[0] == b"ok" else reply[1].decode()
