"""Waiting until the views have heard of the facts, by which they drop what they have of these jobs."""

import asyncio
from typing import Final

from core.keys import ShardKeys
from core.redis import answering
from core.store import EventStore
from projections.checkpoint import Moved
from projections.generations import all_of

_PATIENCE_SECONDS: Final = 10.0  # For as long as they do not come any further.
_POLL_SECONDS: Final = 0.1


async def wait_for_views(store: EventStore, keys: ShardKeys) -> str | None:
    """Wait until all views of a shard are where its log ends now, those of other releases too.

    What to say of it, if one does not come any further. Raises StoreUnavailable.
    """
    loop = asyncio.get_running_loop()
    async with answering():
        end = int(await store.client.execute_command("GET", keys.sequence) or 0)
    until, known = loop.time() + _PATIENCE_SECONDS, -1
    while (at := await _slowest(store, keys, end)) < end:
        if at > known:
            until, known = loop.time() + _PATIENCE_SECONDS, at
        if loop.time() >= until:
            return (
                f"the views of shard {keys.shard} have metadata and errors of these jobs until a projector "
                f"has folded the last {end - at:,} events: start one"
            )
        await asyncio.sleep(_POLL_SECONDS)
    return None


async def _slowest(store: EventStore, keys: ShardKeys, end: int) -> int:
    """How far the view is that is furthest behind; at the end if there is none."""
    at = end
    for generation in await all_of(store):
        try:
            at = min(at, (await generation.view(store, keys.shard).checkpoint()).sequence)
        except Moved:
            continue  # It is being dropped.
    return at
