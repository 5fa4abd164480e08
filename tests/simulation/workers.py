"""Workers made of the product's own code, the store as they use it, and an upstream that has whims."""

import asyncio
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from functools import partial
from random import Random
from typing import Any

from consumers.execute import LossLimits
from consumers.recovery import Recovery
from consumers.stop import Stop
from consumers.upstream.base import Answer, Call, Chunk, UpstreamError
from consumers.worker import Identity, Worker
from core.appender import Record
from core.bells import Bells
from core.commands import Command
from core.errors import StoreError
from core.events import ErrorKind, Usage
from core.records import Bounds
from core.roster import Roster
from core.store import EventStore, Recorded
from tests.simulation.network import Network, Process, SimulatedRedis
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
