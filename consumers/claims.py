"""Claiming: which waiting jobs this worker takes, and how it hears of them."""

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Final

from msgspec import Struct

from core import functions
from core.claim_policy import lanes_to_read, takes_oldest_first
from core.errors import FromTheFuture, Unreadable
from core.events import Submitted
from core.head import Head, head_of
from core.keys import LaneName, ShardKeys
from core.log import submitted_in
from core.redis import answering
from core.store import EventStore
from core.trouble import Trouble
from core.upcast import SCHEMA

log = logging.getLogger(__name__)

LANES_KNOWN_FOR_SECONDS: Final = 1.0


class Delivery(Struct, frozen=True):
    """A lane entry that is this worker's, not yet claimed: the job may still be anybody's."""

    entry: str
    job_id: str
    head: Head
    submitted: Submitted | None  # None: trimmed from the log.
    is_overdue: bool


class Claims:
    """Takes deliveries for one worker, from all shards."""

    def __init__(
        self,
        store: EventStore,
        consumer: str,
        queues: Collection[str],
        models: Callable[[], Collection[str]],
    ) -> None:
        self._store = store
        self._consumer = consumer
        self._queues = queues
        self._models = models
        self._turn = 0
        self._turns = dict.fromkeys(range(len(store.shards)), 0)  # Each shard has its own.
        self._known: dict[int, list[LaneName]] = {}
        self._known_at = float("-inf")
        self._newer = Trouble(log, "jobs of a newer release are left to its workers")

    async def take(self, want: int) -> list[Delivery]:
        """Up to `want` deliveries; less means that there are no more just now.

        Raises StoreUnavailable; what was delivered then is found by `stranded`.
        """
        await self._learn_lanes()
        taken: list[Delivery] = []
        self._turn += 1
        for at in range(len(self._store.shards)):
            keys = self._store.shards[(at + self._turn) % len(self._store.shards)]
            if len(taken) < want:
                taken += await self._read(keys, want - len(taken), own=False)
        if len(taken) < want:
            self._known_at = float("-inf")  # Perhaps there is a lane that we have not heard of.
        return taken

    async def stranded(self) -> list[Delivery]:
        """Deliveries of this consumer that a lost reply may have left unseen. Raises StoreUnavailable."""
        self._known_at = float("-inf")
        await self._learn_lanes()
        taken: list[Delivery] = []
        for keys in self._store.shards:
            taken += await self._read(keys, 1, own=True)
        return taken

    async def _read(self, keys: ShardKeys, want: int, *, own: bool) -> list[Delivery]:
        models = self._models()
        self._turns[keys.shard] += 1
        turn = self._turns[keys.shard]
        lanes = lanes_to_read(self._known[keys.shard], self._queues, models, turn)
        ask = {
            "consumer": self._consumer,
            "want": want,
            "prefix": keys.prefix,
            "lanes": [{"lane": name.lane, "queue": name.queue} for name in lanes],
            "oldest_first": takes_oldest_first(turn),
            "hungry": list({name.serves for name in lanes}),
            "own": own,
            "schema": SCHEMA,
        }
        names = [keys.log, keys.hungry, keys.paused, *(keys.ready(name) for name in lanes)]
        handed_over, *rows = await functions.call(self._store.client, "claim", names, ask)
        if handed_over:
            self._newer.is_there("upgrade this one")
        deliveries = [_delivery(*row) for row in rows]
        return [delivery for delivery in deliveries if delivery is not None]

    async def _learn_lanes(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._known_at < LANES_KNOWN_FOR_SECONDS:
            return
        for keys in self._store.shards:
            self._known[keys.shard] = await known_lanes(self._store, keys)
        self._known_at = now


async def known_lanes(store: EventStore, keys: ShardKeys) -> list[LaneName]:
    """Every lane that a shard has, but for those of a newer release. Raises StoreUnavailable."""
    async with answering():
        names: set[bytes] = await store.client.execute_command("SMEMBERS", keys.lanes)
    lanes: list[LaneName] = []
    for name in names:
        with suppress(FromTheFuture):
            lanes.append(LaneName.parse(name.decode()))
    return lanes


def _delivery(
    entry: bytes, job_id: bytes, flat: list[bytes], submitted: list[Any] | None, overdue: int
) -> Delivery | None:
    """None for what cannot be read: left pending, whoever can recovers it."""
    try:
        head = head_of(flat)
        assert head is not None, "the claim function delivers only entries that have a head"
        event = submitted_in(submitted)
    except (FromTheFuture, Unreadable) as error:
        log.error("job %s passed over: %s", job_id.decode(), error)
        return None
    return Delivery(entry.decode(), job_id.decode(), head, event, overdue == 1)
