"""Recovery: every worker takes back what a silent worker held, whether or not it has a free slot.

XAUTOCLAIM is atomic, so no lock decides who does it. A crash is not a failure: it costs the job a
delivery, and `decide` says what follows. While Redis cannot be reached nobody can renew, and idle
times run on all the same; so after an outage nothing is recovered for one lease: `recover.lua` says
how that is known.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from consumers.claims import known_lanes
from consumers.execute import LossLimits
from core import functions
from core.commands import Claim as ClaimJob
from core.commands import Lose
from core.errors import Conflict, FromTheFuture, NotOwner, StoreError
from core.events import JobEvent, LostBecause, WorkerLost
from core.fleet import FactRefused
from core.head import Head, head_of, milliseconds_of
from core.job import CommandRefused, decide, evolve
from core.keys import HANDED_OVER, LaneName, ShardKeys
from core.roster import Roster
from core.states import Job, Queued, Running
from core.store import Claim, EventStore, Recorded
from core.trouble import Trouble
from core.upcast import SCHEMA

if TYPE_CHECKING:
    from consumers.spans import WorkerSpans

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 1.0
TIDY_EVERY_SECONDS: Final = 60.0
OUTAGE_MS_MIN: Final = 2_000  # Workers are slow now and then; that is no outage.
_ENTRIES_PER_CALL: Final = 50
_LANES_PER_CALL: Final = 500


def outage_ms(lease_ms: int) -> int:
    """How long nobody must have looked for it to have been an outage.

    A lease is renewed three times, so one of these is missed in a third of it, and the rest outlives
    that. Under leases of less than 6 s the shortest outages go unnoticed, which costs deliveries.
    """
    return max(lease_ms // 3, OUTAGE_MS_MIN)


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
        spans: "WorkerSpans | None" = None,
    ) -> None:
        self._store = store
        self._roster = roster
        self._consumer = consumer
        self._lease_ms = round(lease_seconds * 1_000)
        self._limits = limits
        self._is_mine = is_mine
        self._spans = spans
        self._cursors: dict[str, str] = {}
        self._wait_ms = 0  # Until anything may be recovered, at the last look.
        self._pausing = Trouble(log, "nothing is recovered for one lease")
        self._tidied_at = float("-inf")

    async def run(self) -> None:
        """Recover for ever, once a second."""
        loop = asyncio.get_running_loop()
        trouble = Trouble(log, "nothing is recovered")
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self.look()
                if loop.time() - self._tidied_at >= TIDY_EVERY_SECONDS:
                    await self.tidy(max(self._lease_ms, round(TIDY_EVERY_SECONDS * 1_000)))
                    self._tidied_at = loop.time()
                trouble.is_over()
            except StoreError as error:
                trouble.is_there(error)

    async def look(self) -> None:
        """Take back what the dead held, and put on the log who they are. Raises StoreUnavailable."""
        crew = await self._roster.crew()
        await self.recover(crew.living)
        if self._wait_ms:
            return  # Heartbeats expire in an outage, too.
        for member in crew.members:
            is_silent = member.heartbeat is None and member.name != self._consumer
            if is_silent and not member.worker.has_ended:
                with suppress(FactRefused):  # Somebody else has reported it.
                    await self._roster.record(member.name, WorkerLost(by=self._consumer))

    async def recover(self, living: Collection[str] = ()) -> int:
        """Look at every lane once; how many entries were taken over. Raises StoreUnavailable."""
        taken = self._wait_ms = 0
        for keys in self._store.shards:
            lanes = await known_lanes(self._store, keys)
            while (
                True
            ):  # Once even without any lanes, or the next look would take it for an outage.
                lanes, count = await self._sweep(keys, lanes, living)
                taken += count
                if not lanes:
                    break
        return taken

    async def tidy(self, idle_ms: int) -> tuple[int, int]:
        """Strike off the consumers of dead workers that hold nothing, and lanes that nothing waits in.

        `idle_ms` is how long either must have been silent; how many of each. Raises StoreUnavailable.
        """
        living = dict.fromkeys((await self._roster.crew()).living, True)
        consumers = lanes = 0
        for keys in self._store.shards:
            known = await known_lanes(self._store, keys)
            for start in range(0, len(known), _LANES_PER_CALL):
                some = known[start : start + _LANES_PER_CALL]
                ask = {
                    "prefix": keys.prefix,
                    "idle_ms": idle_ms,
                    "names": [{"lane": name.lane, "serves": name.serves} for name in some],
                    "living": living,
                }
                names = [keys.lanes, keys.hungry, *(keys.ready(name) for name in some)]
                struck = await functions.call(self._store.client, "tidy", names, ask)
                consumers, lanes = consumers + struck[0], lanes + struck[1]
        return consumers, lanes

    async def _sweep(
        self, keys: ShardKeys, lanes: list[LaneName], living: Collection[str]
    ) -> tuple[list[LaneName], int]:
        """One call over `lanes`; which of them have more to look at, and how many were taken."""
        names = [keys.ready(lane) for lane in lanes]
        ask = {
            "consumer": self._consumer,
            "lease_ms": self._lease_ms,
            "outage_ms": outage_ms(self._lease_ms),
            "cursors": [self._cursors.get(name, "0-0") for name in names],
            "count": _ENTRIES_PER_CALL,
            "prefix": keys.prefix,
            "schema": SCHEMA,
        }
        wait_ms, *replies = await functions.call(
            self._store.client, "recover", [keys.recovery, *names], ask
        )
        if wait_ms:
            self._wait_ms = wait_ms
            self._pausing.is_there("nobody looked for a while: Redis was away, or no worker ran")
            return [], 0
        self._pausing.is_over()
        unfinished: list[LaneName] = []
        losses = []
        for lane, name, (cursor, entries) in zip(lanes, names, replies, strict=True):
            self._cursors.pop(name, None)
            if cursor != b"0-0":
                self._cursors[name] = cursor.decode()
                unfinished.append(lane)
            for entry, job_id, flat, owner in entries:
                if not self._is_mine(job_id.decode(), entry.decode()):
                    losses.append(
                        self._take_back(
                            job_id.decode(), flat, entry.decode(), owner.decode(), living
                        )
                    )
        await asyncio.gather(*losses)
        return unfinished, len(losses)

    async def _take_back(
        self, job_id: str, flat: list[bytes], entry: str, owner: str, living: Collection[str]
    ) -> None:
        try:
            head = head_of(flat)
            assert head is not None, "the recover function takes only entries that have a head"
            events = self._loss(head.job, owner, is_alive=owner in living)
            recorded = await self._store.append(
                job_id, head.job, events, Claim(self._consumer, entry)
            )
        except FromTheFuture as error:
            log.error("job %s passed over: %s", job_id, error)
        except (Conflict, CommandRefused, NotOwner) as error:
            log.info("job %s not recovered: %s", job_id, error)
        else:
            log.debug(
                "job %s recovered", job_id
            )  # The journal has `job lost`, as of all that is written.
            if self._spans is not None and owner != HANDED_OVER:
                await self._record_lost(self._spans, job_id, head, recorded)

    async def _record_lost(
        self, spans: "WorkerSpans", job_id: str, head: Head, recorded: Recorded
    ) -> None:
        """The span of the attempt that is over, if one had begun: its worker cannot export it any more."""
        if not isinstance(head.job, Running):
            return
        ran_ms = milliseconds_of(recorded.log_ids[0]) - head.time_ms(head.job.claimed)
        try:
            view = await self._store.view(job_id)
        except StoreError as error:
            log.info("job %s: a lost attempt without a span: %s", job_id, error)
            return
        spans.lost(job_id, view.submitted if view else None, head.job, max(0, ran_ms))

    def _loss(self, job: Job, owner: str, *, is_alive: bool) -> tuple[JobEvent, ...]:
        """The events that give a job back; one that was never started is claimed for that first.

        That costs a delivery only if its worker died: of a lost reply it can happen to any job, and a
        job that kills whoever reads it would go round for ever.
        """
        bounds = (self._limits.deliveries_max, self._limits.recovery_policy)
        if not isinstance(job, Queued):
            # An older release's worker that let go of it did not die of it.
            why = LostBecause.DRAINED if owner == HANDED_OVER else LostBecause.LEASE_RAN_OUT
            return decide(job, Lose(job.claims, why, *bounds))
        why = LostBecause.NEVER_STARTED if is_alive else LostBecause.LEASE_RAN_OUT
        [claimed] = decide(job, ClaimJob(owner or self._consumer))
        running = evolve(job, claimed)
        return (claimed, *decide(running, Lose(running.claims, why, *bounds)))
