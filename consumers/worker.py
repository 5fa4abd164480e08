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
from typing import Final

from msgspec import Struct
from redis.asyncio import Redis

from consumers.claims import Claims, Delivery
from consumers.execute import Executor, LossLimits
from consumers.leases import RENEWALS_PER_LEASE, Interruption, Leases
from consumers.recovery import Recovery
from consumers.upstream.base import Upstream, UpstreamError
from core.bells import Bells
from core.errors import StoreError
from core.events import ErrorKind, Gpu, WorkerDraining, WorkerStarted, WorkerStopped
from core.fleet import FactRefused, WorkerStatus, worker_subject
from core.keys import WORK_BELL
from core.output import Emitter
from core.queues import Queues, keep_mirrored
from core.roster import Heartbeat, Roster
from core.states import Queued
from core.store import EventStore
from core.timers import run_timers

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0  # A bell may be lost; then work is found this much later.
MODELS_EVERY_SECONDS: Final = 10.0
_AFTER_ERROR_SECONDS: Final = 0.5
_SIGNS_OF_DEATH: Final = frozenset(
    {ErrorKind.CONNECT, ErrorKind.LOST_STREAM, ErrorKind.OVERLOAD, ErrorKind.TIMEOUT}
)


class Identity(Struct, frozen=True, kw_only=True):
    """Who a worker is, and what it takes."""

    name: str  # Unique for ever: a new process is a new worker.
    host: str
    concurrency: int
    queues: tuple[str, ...]
    lease_seconds: float
    grace_seconds: float
    gpus: tuple[Gpu, ...] = ()


class Stop:
    """How somebody asks a worker to stop: once to finish its jobs, twice to give them back now."""

    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self.now = asyncio.Event()

        self._on_drain: tuple[Callable[[], None], ...] = ()

    def on_drain(self, *callbacks: Callable[[], None]) -> None:
        """Call these when the first request comes; it must not have to wait for anything."""
        self._on_drain = callbacks

    def ask(self) -> None:
        (self.now if self.draining.is_set() else self.draining).set()
        for callback in self._on_drain:
            callback()


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
    ) -> None:
        self.identity = identity
        self.claimed_at = float("-inf")  # When Redis last let it look for work.
        self.models: frozenset[str] = frozenset()
        self._store = store
        self._bells = bells
        self._upstream = upstream
        self._roster = Roster(store)
        self._claims = Claims(store, identity.name, identity.queues, lambda: self.models)
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
            self._doubt_upstream,
        )
        self._recovery = Recovery(
            store, self._roster, identity.name, identity.lease_seconds, limits, self.leases.holds
        )
        self._in_hand: set[tuple[str, str]] = (
            set()
        )  # Deliveries with a task here: job and lane entry.
        self._task_ended = asyncio.Event()
        self._upstream_in_doubt = asyncio.Event()
        self._upstream_trouble: str | None = None  # Said once, not at every try.
        self._is_draining = False

    async def run(self, stop: Stop, is_ready: Callable[[], None] = lambda: None) -> None:
        """Work until asked to stop, then drain. Raises StoreUnavailable if Redis is away at the start."""
        if not await self._upstream_answers(stop):
            return
        await self._beat()
        async with asyncio.TaskGroup() as around:
            keeping = [
                around.create_task(self._bells.run()),
                around.create_task(self._keep_leases()),
                around.create_task(self._keep_beating()),
                around.create_task(self._recovery.run()),
                around.create_task(run_timers(self._store)),
                around.create_task(self._keep_learning_models()),
                around.create_task(keep_mirrored(Queues(self._store))),
            ]
            async with asyncio.TaskGroup() as jobs:
                giving_back = jobs.create_task(self._give_back(stop))
                await self._claim_until(stop, jobs, is_ready)
                self._is_draining = True
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
            while not stop.draining.is_set():
                free = self.identity.concurrency - len(self._in_hand)
                if free <= 0:
                    await self._a_task_ended()
                    continue
                try:
                    deliveries = await self._take(free, may_be_stranded)
                    may_be_stranded = False
                except StoreError as error:
                    log.warning("nothing claimed: %s", error)
                    self.claimed_at = float("-inf")
                    may_be_stranded = True
                    await bell.wait(_AFTER_ERROR_SECONDS)
                    continue
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
        self._in_hand.add(_key(delivery))
        task = jobs.create_task(self._executor.run(delivery))
        task.add_done_callback(lambda _: self._ended(delivery))

    def _ended(self, delivery: Delivery) -> None:
        self._in_hand.discard(_key(delivery))
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

    async def _keep_leases(self) -> None:
        async with self._bells.hear(worker_subject(self.identity.name)) as bell:
            await self.leases.keep(bell)

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(self.identity.lease_seconds / RENEWALS_PER_LEASE)
            try:
                await self._beat()
            except StoreError as error:
                log.warning("no heartbeat: %s", error)

    async def _beat(self) -> None:
        """Say that this worker is alive; if the log does not know it, or takes it for lost, that it is there.

        So it was cut off for longer than a lease, or the store is another one than before.
        """
        heartbeat = Heartbeat(running=len(self._in_hand), models=tuple(sorted(self.models)))
        expires_ms = round(self.identity.lease_seconds * 1_000)
        status = await self._roster.beat(self.identity.name, heartbeat, expires_ms)
        if status in {None, WorkerStatus.LOST}:
            with suppress(FactRefused):
                await self._roster.record(self.identity.name, self._started())
            if self._is_draining:
                await self._say(WorkerDraining(running=len(self._in_hand)))

    async def _upstream_answers(self, stop: Stop) -> bool:
        """Wait for the upstream, which may be starting too; False if asked to stop meanwhile."""
        while not stop.draining.is_set():
            await self._learn_models()
            if self.models:
                return True
            try:
                async with asyncio.timeout(_AFTER_ERROR_SECONDS):
                    await stop.draining.wait()
            except TimeoutError:
                continue
        return False

    async def _keep_learning_models(self) -> None:
        while True:
            pause_seconds = MODELS_EVERY_SECONDS if self.models else _AFTER_ERROR_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    await self._upstream_in_doubt.wait()
            self._upstream_in_doubt.clear()
            await self._learn_models()

    def _doubt_upstream(self, failure: UpstreamError) -> None:
        """After an error that a dead server would give: look now, and claim nothing for one that is away.

        Otherwise every waiting job would spend its attempts on a server that is being restarted.
        """
        if failure.error.kind is ErrorKind.CONNECT:
            self.models = frozenset()
        if failure.error.kind in _SIGNS_OF_DEATH:
            self._upstream_in_doubt.set()

    async def _learn_models(self) -> None:
        """Ask what the upstream serves. While it does not answer, nothing is claimed for it."""
        try:
            models = await self._upstream.models()
        except UpstreamError as error:
            if str(error) != self._upstream_trouble:
                self._upstream_trouble = str(error)
                address = self._upstream.address
                log.warning(
                    "nothing is claimed until %s lists its models (is UPSTREAM_URL right?): %s",
                    address,
                    error,
                )
            models = frozenset()
        else:
            self._upstream_trouble = None
        if models != self.models:
            self.models = models
            log.info("serves %s", ", ".join(sorted(models)) or "no model")

    def _started(self) -> WorkerStarted:
        return WorkerStarted(
            capacity=self.identity.concurrency,
            queues=self.identity.queues,
            models=tuple(sorted(self.models)),
            upstream=self._upstream.address,
            host=self.identity.host,
            gpus=self.identity.gpus,
        )

    async def _say(self, event: WorkerDraining | WorkerStopped) -> None:
        try:
            await self._roster.record(self.identity.name, event)
        except (StoreError, FactRefused) as error:
            log.warning("%s not recorded: %s", type(event).__name__, error)


def _key(delivery: Delivery) -> tuple[str, str]:
    return delivery.job_id, delivery.entry
