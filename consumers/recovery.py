"""Recovery: every worker takes back what a silent worker held, whether or not it has a free slot.

XAUTOCLAIM is atomic, so no lock decides who does it. A crash is not a failure: it costs the job a
delivery, and `decide` says what follows. While Redis cannot be reached nobody can renew, and idle
times run on all the same; so after a reconnect nothing is recovered for one lease.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from consumers.claims import known_lanes
from consumers.execute import LossLimits
from core import functions
from core.commands import Claim as ClaimJob
from core.commands import Lose
from core.errors import Conflict, FromTheFuture, NotOwner, StoreError
from core.events import JobEvent, LostBecause, WorkerLost
from core.fleet import FactRefused
from core.head import head_of
from core.job import CommandRefused, decide, evolve
from core.keys import LaneName, ShardKeys
from core.roster import Roster
from core.states import Job, Queued
from core.store import Claim, EventStore

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 1.0
_ENTRIES_PER_CALL: Final = 50


class Recovery:
    """One worker's part in recovering the work of others."""

    def __init__(
        self,
        store: EventStore,
        roster: Roster,
        consumer: str,
        lease_seconds: float,
        limits: LossLimits,
        is_mine: Callable[[str, str], bool],
    ) -> None:
        self._store = store
        self._roster = roster
        self._consumer = consumer
        self._lease_seconds = lease_seconds
        self._limits = limits
        self._is_mine = is_mine
        self._cursors: dict[str, str] = {}
        self._not_before = float("-inf")

    async def run(self) -> None:
        """Recover for ever, once a second."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                if self.may_recover:
                    await self.recover()
                    await self.report_lost()
            except StoreError as error:
                log.warning("nothing recovered: %s", error)
                self.pause()

    def pause(self) -> None:
        """Recover nothing for one lease: Redis was away, so silence proves nothing."""
        self._not_before = asyncio.get_running_loop().time() + self._lease_seconds

    @property
    def may_recover(self) -> bool:
        """Say whether Redis has been there for a lease."""
        return asyncio.get_running_loop().time() >= self._not_before

    async def recover(self) -> int:
        """Look at every lane once; how many entries were taken over. Raises StoreUnavailable."""
        taken = 0
        for keys in self._store.shards:
            lanes = await known_lanes(self._store, keys)
            todo = lanes
            while todo:
                todo, count = await self._sweep(keys, todo)
                taken += count
        return taken

    async def _sweep(self, keys: ShardKeys, lanes: list[LaneName]) -> tuple[list[LaneName], int]:
        """One call over `lanes`; which of them have more to look at, and how many were taken."""
        names = [keys.ready(lane) for lane in lanes]
        ask = {
            "consumer": self._consumer,
            "lease_ms": round(self._lease_seconds * 1_000),
            "cursors": [self._cursors.get(name, "0-0") for name in names],
            "count": _ENTRIES_PER_CALL,
            "prefix": keys.prefix,
        }
        replies = await functions.call(self._store.client, "recover", names, ask)
        unfinished: list[LaneName] = []
        taken = 0
        for lane, name, (cursor, entries) in zip(lanes, names, replies, strict=True):
            self._cursors[name] = cursor.decode()
            if cursor != b"0-0":
                unfinished.append(lane)
            for entry, job_id, flat in entries:
                if not self._is_mine(job_id.decode(), entry.decode()):
                    await self._take_back(job_id.decode(), flat, entry.decode())
                    taken += 1
        return unfinished, taken

    async def _take_back(self, job_id: str, flat: list[bytes], entry: str) -> None:
        try:
            head = head_of(flat)
            assert head is not None, "the recover function takes only entries that have a head"
            events = self._loss(head.job)
            await self._store.append(job_id, head.job, events, Claim(self._consumer, entry))
        except FromTheFuture as error:
            log.error("job %s passed over: %s", job_id, error)
        except (Conflict, CommandRefused, NotOwner) as error:
            log.info("job %s not recovered: %s", job_id, error)
        else:
            log.warning("job %s recovered", job_id)

    def _loss(self, job: Job) -> tuple[JobEvent, ...]:
        """The events that give a job back; one that was never started is claimed for that first."""
        bounds = (self._limits.deliveries_max, self._limits.recovery_policy)
        if not isinstance(job, Queued):
            claims = job.claims
            return decide(job, Lose(claims, LostBecause.LEASE_RAN_OUT, *bounds))
        [claimed] = decide(job, ClaimJob(self._consumer))
        running = evolve(job, claimed)
        return (
            claimed,
            *decide(running, Lose(running.claims, LostBecause.NEVER_STARTED, *bounds)),
        )

    async def report_lost(self) -> None:
        """Put on the log which workers have been silent for a lease. Raises StoreUnavailable."""
        for member in await self._roster.members():
            if member.heartbeat is None and not member.worker.has_ended:
                with suppress(FactRefused):  # Somebody else has reported it.
                    await self._roster.record(member.name, WorkerLost(by=self._consumer))
