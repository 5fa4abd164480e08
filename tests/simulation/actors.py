"""Who takes part: workers and clients, made of the product's own code, and an upstream that has whims."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextvars import ContextVar
from functools import partial
from random import Random
from typing import Any

from api.desk import Catalog, Defaults, Desk
from api.errors import ApiError
from api.schemas import JobView, SubmitJob
from consumers.execute import LossLimits
from consumers.recovery import Recovery
from consumers.upstream.base import Answer, Call, Chunk, UpstreamError
from consumers.worker import Identity, Stop, Worker
from core.appender import Record
from core.bells import Bells
from core.commands import Cancel, Command, Requeue
from core.errors import QueueFull, StoreError
from core.events import ErrorKind, Priority, Usage
from core.ids import RANDOM_BITS, job_id
from core.job import CommandRefused
from core.keys import shard_for
from core.roster import Roster
from core.store import Bounds, EventStore, Recorded
from tests.given import CHAT
from tests.simulation.network import Network, Process, SimulatedRedis
from tests.simulation.server import clock_ms
from tests.simulation.witness import Broken, Sent, Witness

_COMMAND: ContextVar[Command | None] = ContextVar("command", default=None)
_WHIMS = (
    "answer",
    "answer",
    "answer",
    "overload",
    "bad_request",
    "connect",
    "breaks",
    "stalls",
    "raises",
)


class WatchedStore(EventStore):
    """The store of one process, which tells the witness what it sends and what it is answered."""

    def __init__(
        self, network: Network, witness: Witness, process: Process, shards: int, bounds: Bounds
    ) -> None:
        super().__init__(SimulatedRedis(network, process), shards, bounds)
        self._network, self._witness, self._process = network, witness, process
        for appender in (*self._appenders, *self._submitters):
            appender.send = partial(self._send, appender.send)  # type: ignore[method-assign]

    async def execute(self, job_id: str, command: Command, *args: Any, **kwargs: Any) -> Recorded:
        token = _COMMAND.set(command)
        try:
            return await super().execute(job_id, command, *args, **kwargs)
        finally:
            _COMMAND.reset(token)

    def _send(self, send: Any, record: Record) -> asyncio.Future[list[Any]]:
        self._witness.sent(record.op, Sent(self._process.name, _COMMAND.get()))
        reply: asyncio.Future[list[Any]] = send(record)
        reply.add_done_callback(partial(self._answered, record.op))
        return reply

    def _answered(self, operation: str, reply: asyncio.Future[list[Any]]) -> None:
        try:
            self._witness.answered(operation, reply)
        except Broken as error:
            self._network.break_off(error)


class Upstream:
    """An inference server that answers, fails, stalls and breaks off as the seed will have it."""

    address = "whimsical://"

    def __init__(self, random: Random, worker: str, pause_seconds: float) -> None:
        self.is_calm = False
        self._random = random
        self._worker = worker
        self._pause_seconds = pause_seconds  # Before a chunk, on average.

    async def models(self) -> frozenset[str]:
        if not self.is_calm and self._random.random() < 0.1:
            raise UpstreamError(ErrorKind.CONNECT, "nobody listens")
        return frozenset({"echo"})

    async def aclose(self) -> None:
        pass

    async def stream(self, call: Call) -> AsyncGenerator[Chunk | Answer, None]:
        whim = "answer" if self.is_calm else self._random.choice(_WHIMS)
        if whim in ("overload", "bad_request", "connect"):
            raise UpstreamError(ErrorKind(whim), whim, self._random.choice((None, 300)))
        for _ in range(self._random.randrange(4)):
            await self._pause()
            yield Chunk(b'{"by":"%b"}' % self._worker.encode())
        if whim == "stalls":
            await asyncio.sleep(3_600)
        if whim == "raises":
            raise ValueError("not of this adapter's making")
        await self._pause()
        if whim == "answer":
            yield Answer(b'{"said":"hello"}', Usage(1, 2, 3))

    async def _pause(self) -> None:
        seconds = self._random.expovariate(1 / self._pause_seconds)
        await asyncio.sleep(0.0 if self.is_calm else seconds)


class SimulatedWorker:
    """A worker process as `respool worker` composes it."""

    def __init__(
        self,
        network: Network,
        process: Process,
        store: WatchedStore,
        random: Random,
        upstream: Upstream,
        limits: LossLimits,
        lease_seconds: float,
        queues: tuple[str, ...],
    ) -> None:
        self.process = process
        self.upstream = upstream
        self.stop = Stop()
        self._network = network
        identity = Identity(
            name=process.name,
            host="simulation",
            concurrency=random.choice((1, 2, 4)),
            queues=queues,
            lease_seconds=lease_seconds,
            grace_seconds=random.choice((0.2, 2.0)),
        )
        lease_client = SimulatedRedis(network, process)
        bells = Bells(store.client)
        self._worker = Worker(identity, store, lease_client, bells, self.upstream, limits)
        self.serves_all = not queues
        self.is_asked_to_stop = False

    async def run(self) -> None:
        try:
            await self._worker.run(self.stop)
            self._network.say(self.process.name, "has stopped")
        except StoreError as error:
            self._network.say(self.process.name, f"gives up: {type(error).__name__}")
        except Exception as error:
            self._network.break_off(error)
            raise
        self.process.end()

    def ask_to_stop(self) -> None:
        self.is_asked_to_stop = True
        self.stop.ask()


async def rob(store: WatchedStore, name: str, limits: LossLimits) -> None:
    """Take back what everybody holds, as if all leases had run out: whatever the timing, nothing may break."""
    try:
        await Recovery(store, Roster(store), name, 0.0, limits, lambda *_: False).recover()
    except StoreError:
        return


class _SeededDesk(Desk):
    """The API's desk, with ids from the seed."""

    def __init__(self, store: EventStore, bells: Bells, random: Random) -> None:
        defaults = Defaults(attempts_max=3, timeout_ms=2_000, wait_max_seconds=280)
        super().__init__(store, bells, defaults, lambda: True)
        self.catalog = Catalog(Roster(store), asyncio.get_running_loop().time)
        self._random = random

    def _new_id(self, key: str | None) -> str:
        shards = len(self.store.shards)
        shard = self._random.randrange(shards) if key is None else shard_for(key, shards)
        now_ms = clock_ms(asyncio.get_running_loop().time())
        return job_id(now_ms, self._random.getrandbits(RANDOM_BITS), shard)


class Acquired:
    """What all clients have been told: jobs that were accepted, and how far each was seen to be."""

    def __init__(self) -> None:
        self.accepted: list[tuple[str, str]] = []  # Submission and job.
        self.jobs: list[str] = []
        self.versions: dict[str, int] = {}
        self.variants: dict[str, set[str]] = {}  # Requests that were sent under a key.


class Client:
    """One who calls the API, and believes what it is told."""

    def __init__(
        self,
        network: Network,
        process: Process,
        store: WatchedStore,
        random: Random,
        told: Acquired,
    ) -> None:
        self.is_calm = False
        self._network, self._process = network, process
        self._store, self._random, self._told = store, random, told
        self._bells = Bells(store.client)
        self._desk = _SeededDesk(store, self._bells, random)
        self._submissions = 0

    async def run(self) -> None:
        try:
            self._process.spawn(self._bells.run())
            while not self.is_calm:
                await asyncio.sleep(self._random.expovariate(5.0))
                await self._act()
        except Exception as error:
            self._network.break_off(error)
            raise
        self._process.end()

    async def _act(self) -> None:
        acts = (self._submit, self._submit, self._cancel, self._requeue, self._wait)
        act = self._random.choice(acts) if self._told.jobs else self._submit
        name = act.__name__.strip("_")
        try:
            what = await act()
        except (StoreError, QueueFull, CommandRefused) as error:
            what = type(error).__name__
        except ApiError as error:
            what = error.code
        self._network.say(self._process.name, f"{name}: {what}")

    async def _submit(self) -> str:
        self._submissions += 1
        random, key = self._random, None
        submission = f"{self._process.name}.{self._submissions}"
        variant = ""
        if random.random() < 0.4:
            key, variant = f"key-{random.randrange(3)}", random.choice(("a", "a", "a", "b"))
            submission = key
            self._told.variants.setdefault(key, set()).add(variant)
        asked = self._asked({"submission": submission, "variant": variant}, key is not None)
        try:
            view, is_new = await self._desk.submit(asked, key)
        except ApiError as error:
            is_known = key is not None and len(self._told.variants[key]) > 1
            if error.code == "idempotency_key_reused" and not is_known:
                raise Broken(f"{key} was called reused, and was used for one request") from error
            raise
        self._learn(view, 0)
        self._told.accepted.append((submission, view.id))
        self._told.jobs.append(view.id)
        return "accepted" if is_new else "known"

    def _asked(self, metadata: dict[str, str], is_keyed: bool) -> SubmitJob:
        """A request; the one under a key is always the same, but for its metadata."""
        if is_keyed:
            return SubmitJob(model="echo", request=CHAT, metadata=metadata)
        random = self._random
        return SubmitJob(
            model="echo",
            request=CHAT,
            metadata=metadata,
            queue=random.choice(("default", "default", "batch")),
            priority=random.choice(tuple(Priority)),
            delay_seconds=random.choice((0, 0, 0, 0.1, 1.5)),
            deadline_seconds=random.choice((None, None, None, 0.3, 3.0)),
            timeout_seconds=random.choice((0.5, 2.0)),
            max_attempts=random.choice((1, 2, 3)),
        )

    async def _cancel(self) -> str:
        return await self._command(Cancel(by=self._process.name))

    async def _requeue(self) -> str:
        return await self._command(Requeue(by=self._process.name))

    async def _command(self, command: Command) -> str:
        job = self._any_job()
        recorded = await self._store.execute(job, command)
        known = self._told.versions[job] = max(self._told.versions[job], recorded.job.version)
        self._learn(await self._desk.view(job), known)
        return "done"

    async def _wait(self) -> str:
        """A long poll answers with the ending, or not before its time."""
        loop, job = asyncio.get_running_loop(), self._any_job()
        seconds, known = self._random.choice((0.0, 0.5, 3.0)), self._told.versions[job]
        until = loop.time() + seconds
        view = await self._desk.wait(job, seconds)
        self._learn(view, known)
        if view.finished_at is None and loop.time() < until - 1e-6:
            raise Broken(f"a wait for {job} came back before its time: {view}")
        return view.status

    def _learn(self, view: JobView, known: int) -> None:
        """Nobody sees a job older than it was known to be when he asked. Raises Broken."""
        if view.version < known:
            raise Broken(f"{self._process.name} saw a past of {view.id}: {view}, not {known}")
        self._told.versions[view.id] = max(self._told.versions.get(view.id, 0), view.version)

    def _any_job(self) -> str:
        jobs: Sequence[str] = self._told.jobs
        return self._random.choice(jobs)
