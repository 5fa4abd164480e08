"""The cluster in figures, as the store has it: the same whichever process asks.

Depths and workers come from heads, counts and heartbeats, which the appends keep in step. So several
processes that each say them do not add up to more: the greatest of what they say is the figure.
"""

import asyncio
import math
from typing import Any, Final

from msgspec import Struct

from core.effects import Counter
from core.errors import StoreNotReady
from core.keys import ShardKeys
from core.nodes import primaries
from core.redis import answering
from core.roster import Crew, Roster
from core.store import EventStore
from core.tail import NO_ENTRY, look
from projections.checkpoint import Moved, View
from projections.generations import serving

_KINDS: Final = {counter.value: counter for counter in Counter}


class Memory(Struct, frozen=True):
    """Redis's memory, in bytes."""

    used: int
    maximum: int | None  # None: whatever the machine has.


class Cluster(Struct, frozen=True, kw_only=True):
    """The whole of it, at one moment."""

    depths: dict[str, dict[Counter, int]]  # Jobs by queue.
    capacity: dict[str, int]  # Jobs at once, by living worker.
    memory: Memory
    log_entries: int
    lag_entries: int | None  # That no view has folded yet; None while there is no view.


async def cluster(store: EventStore) -> Cluster:
    """What the store says of the cluster now. Raises StoreError."""
    depths, crew, memory, log_entries, lag_entries = await asyncio.gather(
        depths_of(store),
        Roster(store).crew(),
        _memory(store),
        _log_entries(store),
        lag_entries_of(store),
    )
    return Cluster(
        depths=depths,
        capacity=_capacity(crew),
        memory=memory,
        log_entries=log_entries,
        lag_entries=lag_entries,
    )


async def depths_of(store: EventStore) -> dict[str, dict[Counter, int]]:
    """How many jobs wait, are scheduled and run, in each queue that has any. Raises StoreError."""
    depths: dict[str, dict[Counter, int]] = {}
    for keys in store.shards:
        async with answering():
            stored: Any = await store.client.hgetall(keys.counts)
        for field, count in stored.items():
            kind, _, queue = field.decode().partition(":")
            if kind in _KINDS:
                of_queue = depths.setdefault(queue, dict.fromkeys(Counter, 0))
                of_queue[_KINDS[kind]] += int(count)
    return depths


def _capacity(crew: Crew) -> dict[str, int]:
    return {
        member.name: member.worker.capacity
        for member in crew.members
        if member.heartbeat is not None and not member.worker.has_ended
    }


async def _memory(store: EventStore) -> Memory:
    """That of the server; in a cluster of the one that is fullest, as that one refuses jobs first."""
    async with answering():
        infos = [await node.info("memory") for node in await primaries(store.client)]
    of_each = [
        Memory(int(info["used_memory"]), int(info.get("maxmemory", 0)) or None) for info in infos
    ]
    return max(of_each, key=lambda one: (one.used / (one.maximum or math.inf), one.used))


async def _log_entries(store: EventStore) -> int:
    async with answering():
        lengths = [int(await store.client.xlen(keys.log)) for keys in store.shards]
    return sum(lengths)


async def lag_entries_of(store: EventStore) -> int | None:
    """How many log entries no view has folded yet; None while there is no view. Raises StoreError."""
    try:
        views = (await serving(store)).views(store)
        behind = zip(store.shards, views, strict=True)
        return sum([await _lag_of(store, keys, view) for keys, view in behind])
    except (StoreNotReady, Moved):  # Being built, or replaced just now.
        return None


async def _lag_of(store: EventStore, keys: ShardKeys, view: View) -> int:
    at = await view.checkpoint()
    now = await look(store.client, keys, NO_ENTRY)
    return max(0, now.last.sequence - at.sequence)
