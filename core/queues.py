"""Queues: pausing and resuming them, and how many jobs each has.

That a queue is paused is a fact on the log of shard 0. What a claim looks at is a set on its own shard:
the append keeps shard 0's, and `mirror` copies it to the others, right after the fact and once a second
in every worker, should whoever wrote the fact have died in between.
"""

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from msgspec import Struct

from core import functions
from core.appender import Record, new_record
from core.effects import Counter
from core.errors import StoreError
from core.facts import load_subject, write_fact
from core.fleet import Queue, decide_queue, evolve_queue, queue_subject
from core.keys import WORK_BELL_NAME, count_field
from core.redis import answering
from core.store import EventStore
from core.trouble import Trouble

log = logging.getLogger(__name__)

MIRROR_EVERY_SECONDS: Final = 1.0


class QueueState(Struct, frozen=True, kw_only=True):
    """A queue as it is now."""

    name: str
    paused: bool
    waiting: int
    scheduled: int
    running: int


class Queues:
    """Reads and writes the queues of a store. Any name is one; most are never written."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def set_paused(
        self, name: str, *, paused: bool, by: str, reason: str | None = None
    ) -> QueueState:
        """Let a queue's jobs be claimed or not; submissions are taken all the same.

        What runs already goes on. Raises StoreUnavailable.
        """
        subject, keys = queue_subject(name), self._store.shards[0]

        def next_record(before: Queue | None) -> Record | None:
            event = decide_queue(before, paused, by, reason)
            if event is None:
                return None
            after = evolve_queue(before, event)
            record = new_record(keys, subject, before, (event,), after)
            record.register = True
            record.pause = (name, paused)
            record.ring = None if paused else WORK_BELL_NAME
            return record

        await write_fact(self._store, subject, Queue, next_record)
        await self.mirror()
        return await self.state(name)

    async def state(self, name: str) -> QueueState:
        """A queue as it is now, over all shards. Raises StoreUnavailable."""
        queue = await load_subject(self._store, queue_subject(name), Queue)
        counts = dict.fromkeys(Counter, 0)
        for keys in self._store.shards:
            fields = [count_field(counter, name) for counter in Counter]
            async with answering():
                stored = await self._store.client.hmget(keys.counts, fields)
            for counter, count in zip(Counter, stored, strict=True):
                counts[counter] += int(count or 0)
        return QueueState(name=name, paused=queue is not None and queue.paused, **counts)

    async def mirror(self) -> None:
        """Copy which queues are paused to the shards that do not have the facts. Raises StoreUnavailable."""
        first, *others = self._store.shards
        if not others:
            return
        async with answering():
            paused: set[bytes] = await self._store.client.execute_command("SMEMBERS", first.paused)
        ask = {"queues": [queue.decode() for queue in paused]}
        for keys in others:
            await functions.call(self._store.client, "pause", [keys.paused], ask)


async def waiting_in(store: EventStore, queues: Collection[str]) -> dict[str, int]:
    """How many jobs wait in some queues, over all shards. Raises StoreError."""
    waiting = dict.fromkeys(queues, 0)
    fields = [count_field(Counter.WAITING, queue) for queue in waiting]
    for keys in store.shards:
        async with answering():
            stored = await store.client.hmget(keys.counts, fields)
        for queue, count in zip(waiting, stored, strict=True):
            waiting[queue] += int(count or 0)
    return waiting


async def keep_mirrored(queues: Queues) -> None:
    """Mirror for ever."""
    trouble = Trouble(log, "paused queues are not mirrored")
    while True:
        await asyncio.sleep(MIRROR_EVERY_SECONDS)
        try:
            await queues.mirror()
            trouble.is_over()
        except StoreError as error:
            trouble.is_there(error)
