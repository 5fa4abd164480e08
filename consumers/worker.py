"""A worker process: claims, runs, renews, recovers, and stops in that order.

    leases outlive jobs, jobs outlive claiming

so that a drain finishes its work under leases that are still renewed. Whatever is not caught by name
ends the process: the leases run out, and others recover.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec import Struct
from redis.asyncio import Redis

from consumers.claims import Claims, Delivery
from consumers.execute import Executor, LossLimits, Waited
from consumers.leases import RENEWALS_PER_LEASE, Interruption, Leases
from consumers.models import ServedModels
from consumers.recovery import Recovery
from consumers.stop import Stop
from consumers.upstream.base import Upstream
from core.bells import Bells
from core.errors import StoreError
from core.events import Gpu, WorkerDraining, WorkerStarted, WorkerStopped
from core.fleet import FactRefused, WorkerStatus, worker_subject
from core.keys import WORK_BELL
from core.output import Emitter
from core.queues import Queues, keep_mirrored
from core.roster import GpuMemory, Heartbeat, Roster
from core.states import Queued
from core.store import EventStore
from core.tail import TailWatch
from core.timers import run_timers
from core.trouble import Trouble

if TYPE_CHECKING:
    from consumers.spans import WorkerSpans

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0  # A bell may be lost; then work is found this much later.
_AFTER_ERROR_SECONDS: Final = 0.5
_GIVING_BACK_SECONDS: Final = 5.0  # Longer only if Redis is away; then recovery gives back.
_SAYING_SECONDS: Final = 5.0

Result = TypeVar("Result")


class Identity(Struct, frozen=True, kw_only=True):
    """Who a worker is, and what it takes."""

    name: str  # Unique for ever: a new process is a new worker.
    host: str
    concurrency: int
    queues: tuple[str, ...]
    lease_seconds: float
    grace_seconds: float
    gpus: tuple[Gpu, ...] = ()


class Worker:
    """One worker. `run` returns when it has stopped."""

    def __init__(
        self,
        identity: Identity,
        store: EventStore,
        lease_client: Redis,
        bells: Bells,
        upstream: Upstream,
        limits: LossLimits,
        spans: "WorkerSpans | None" = None,
        waited: Waited | None = None,
        gpu_memory: Callable[[], tuple[GpuMemory, ...]] = tuple,
    ) -> None:
        self.identity = identity
        self.gpu_memory = gpu_memory
        self.claimed_at = float("-inf")  # When Redis last let it look for work.
        self.models = ServedModels(upstream)
        self._store = store
        self._bells = bells
        self._upstream = upstream
        self.tail = TailWatch(store)
        self._roster = Roster(store)
        self._claims = Claims(store, identity.name, identity.queues, lambda: self.models.names)
        self.leases = Leases(store, lease_client, identity.name, identity.lease_seconds)
        emitter = Emitter(store, identity.lease_seconds)
        self._executor = Executor(
            store,
            emitter,
            upstream,
            self.leases,
            identity.name,
            limits,
            time.monotonic,
            self.models.doubt,
            spans,
            waited,
        )
        self._recovery = Recovery(
            store,
            self._roster,
            identity.name,
            identity.lease_seconds,
            limits,
            self.leases.holds,
            spans,
        )
        # Deliveries with a task here, by job and the claims before it: lanes count entries for themselves.
        self._in_hand: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._task_ended = asyncio.Event()
        self._is_draining = False
        self._heartbeat_trouble = Trouble(log, "no heartbeat")

    async def run(self, stop: Stop, is_ready: Callable[[], None] = lambda: None) -> None:
        """Work until asked to stop, then drain."""
        await stop.unless_asked(self.models.until_known())
        if stop.draining.is_set():
            return
        await self._try_to_beat()
        async with asyncio.TaskGroup() as around:
            keeping = [
                around.create_task(self._bells.run()),
                around.create_task(self._keep_leases()),
                around.create_task(self._keep_beating()),
                around.create_task(self._recovery.run()),
                around.create_task(run_timers(self._store)),
                around.create_task(self.models.keep()),
                around.create_task(keep_mirrored(Queues(self._store))),
                around.create_task(self.tail.run()),
            ]
            async with asyncio.TaskGroup() as jobs:
                giving_back = jobs.create_task(self._give_back(stop))
                await self._claim_until(stop, jobs, is_ready)
                self._is_draining = True
                if self._in_hand:
                    log.warning(
                        "stopping: %d jobs are finished first, for up to %g s; "
                        "a second signal gives them back now",
                        len(self._in_hand),
                        self.identity.grace_seconds,
                    )
                await self._say(WorkerDraining(running=len(self._in_hand)))
                while self._in_hand:
                    await self._a_task_ended()
                giving_back.cancel()
            for task in keeping:
                task.cancel()
        await self._say(WorkerStopped())

    async def _claim_until(
        self, stop: Stop, jobs: asyncio.TaskGroup, is_ready: Callable[[], None]
    ) -> None:
        """Claim and start jobs until asked to stop. A stop rings the bell that this waits for."""
        async with self._bells.hear(WORK_BELL) as bell:
            stop.on_drain(bell.ring, self._task_ended.set)
            may_be_stranded = False
            trouble = Trouble(log, "nothing is claimed")
            while not stop.draining.is_set():
                free = self.identity.concurrency - len(self._in_hand)
                if free <= 0:
                    await self._a_task_ended()
                    continue
                try:
                    deliveries = await self._take(free, may_be_stranded)
                    may_be_stranded = False
                except StoreError as error:
                    trouble.is_there(error)
                    self.claimed_at = float("-inf")
                    may_be_stranded = True
                    await bell.wait(_AFTER_ERROR_SECONDS)
                    continue
                trouble.is_over()
                self.claimed_at = time.monotonic()
                is_ready()
                for delivery in deliveries:
                    self._start(delivery, jobs)
                if len(deliveries) < free:
                    await bell.wait(POLL_SECONDS)

    async def _take(self, free: int, may_be_stranded: bool) -> list[Delivery]:
        """New deliveries; after a lost reply first those that it may have carried."""
        if may_be_stranded:
            stranded = [
                delivery
                for delivery in await self._claims.stranded()
                if isinstance(delivery.head.job, Queued) and _key(delivery) not in self._in_hand
            ]
            if stranded:
                return stranded
        return await self._claims.take(free)

    def _start(self, delivery: Delivery, jobs: asyncio.TaskGroup) -> None:
        task = jobs.create_task(self._executor.run(delivery))
        self._in_hand[_key(delivery)] = task
        task.add_done_callback(partial(self._ended, delivery))

    def _ended(self, delivery: Delivery, task: asyncio.Task[None]) -> None:
        if self._in_hand.get(_key(delivery)) is task:  # It may have been taken again meanwhile.
            del self._in_hand[_key(delivery)]
        self._task_ended.set()

    async def _a_task_ended(self) -> None:
        await self._task_ended.wait()
        self._task_ended.clear()

    async def _give_back(self, stop: Stop) -> None:
        """Once the grace is over, or at the second request, interrupt what is still running."""
        await stop.draining.wait()
        try:
            async with asyncio.timeout(self.identity.grace_seconds):
                await stop.now.wait()
        except TimeoutError:
            log.warning("grace is over: %d jobs go back", len(self.leases))
        self.leases.interrupt_all(Interruption.DRAINED)
        await asyncio.sleep(_GIVING_BACK_SECONDS)
        log.warning("%d jobs cannot be given back and are left to recovery", len(self._in_hand))
        for task in self._in_hand.values():
            task.cancel()

    async def _keep_leases(self) -> None:
        async with self._bells.hear(worker_subject(self.identity.name)) as bell:
            await self.leases.keep(bell)

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(self.identity.lease_seconds / RENEWALS_PER_LEASE)
            await self._try_to_beat()

    async def _try_to_beat(self) -> None:
        try:
            await self._beat()
            self._heartbeat_trouble.is_over()
        except StoreError as error:
            self._heartbeat_trouble.is_there(error)

    async def _beat(self) -> None:
        """Say that this worker is alive; if the log does not know it, or takes it for lost, that it is there.

        So it was cut off for longer than a lease, or the store is another one than before.
        """
        heartbeat = Heartbeat(
            running=len(self._in_hand),
            models=tuple(sorted(self.models.names)),
            gpus=self.gpu_memory(),
        )
        expires_ms = round(self.identity.lease_seconds * 1_000)
        status = await self._roster.beat(self.identity.name, heartbeat, expires_ms)
        if status in {None, WorkerStatus.LOST}:
            with suppress(FactRefused):
                await self._roster.record(self.identity.name, self._started())
            if self._is_draining:
                await self._say(WorkerDraining(running=len(self._in_hand)))

    def _started(self) -> WorkerStarted:
        return WorkerStarted(
            capacity=self.identity.concurrency,
            queues=self.identity.queues,
            models=tuple(sorted(self.models.names)),
            upstream=self._upstream.address,
            host=self.identity.host,
            gpus=self.identity.gpus,
        )

    async def _say(self, event: WorkerDraining | WorkerStopped) -> None:
        try:
            async with asyncio.timeout(_SAYING_SECONDS):
                await self._roster.record(self.identity.name, event)
        except (StoreError, FactRefused, TimeoutError) as error:
            log.warning("%s not recorded: %s", type(event).__name__, error)


def _key(delivery: Delivery) -> tuple[str, int]:
    """Each delivery of a job comes after more claims; entry ids are counted by each lane for itself."""
    return delivery.job_id, delivery.head.job.claims
