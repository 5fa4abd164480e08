"""Workers for the API's tests: one that runs what a test says, and one that only says it is alive."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from consumers.execute import LossLimits
from consumers.stop import Stop
from consumers.upstream.base import Answer, Call, Chunk, Upstream, UpstreamError
from consumers.worker import Identity, Worker
from core.bells import Bells
from core.commands import RecoveryPolicy
from core.events import ErrorKind, Usage, WorkerStarted
from core.redis import connect
from core.roster import Heartbeat, Roster
from core.store import EventStore

ALIVE_MS = 60_000


class Script:
    """An inference server that says what the test tells it to, when it does. For one job at a time."""

    address = "script://"

    def __init__(self) -> None:
        self._lines: asyncio.Queue[Chunk | Answer | UpstreamError] = asyncio.Queue()
        self.called = asyncio.Event()
        self.calls: list[Call] = []

    def say(self, *words: str) -> None:
        """One chunk for each word."""
        for word in words:
            self.send({"word": word})

    def send(self, fields: dict[str, Any]) -> None:
        self._lines.put_nowait(Chunk(msgspec.json.encode(fields)))

    def answer(self, body: bytes = b'{"said":"all"}', usage: Usage | None = None) -> None:
        self._lines.put_nowait(Answer(body, usage))

    def fail(self, kind: ErrorKind, message: str, retry_after_ms: int | None = None) -> None:
        self._lines.put_nowait(UpstreamError(kind, message, retry_after_ms))

    async def models(self) -> frozenset[str]:
        return frozenset({"echo"})

    async def stream(self, call: Call) -> AsyncGenerator[Chunk | Answer, None]:
        self.calls.append(call)
        self.called.set()
        while True:
            line = await self._lines.get()
            if isinstance(line, UpstreamError):
                raise line
            yield line

    async def aclose(self) -> None:
        pass


@asynccontextmanager
async def working(store: EventStore, url: str, upstream: Upstream) -> AsyncIterator[None]:
    """A worker that runs for as long as the block, and gives back what it then still has."""
    identity = Identity(
        name="worker-1",
        host="here",
        concurrency=4,
        queues=(),
        lease_seconds=10.0,
        grace_seconds=0.0,
    )
    limits = LossLimits(deliveries_max=5, recovery_policy=RecoveryPolicy.REQUEUE)
    lease_client = connect(url)
    worker = Worker(identity, store, lease_client, Bells(store.client), upstream, limits)
    stop, ready = Stop(), asyncio.Event()
    running = asyncio.create_task(worker.run(stop, ready.set))
    try:
        async with asyncio.timeout(5):
            await ready.wait()
        yield
    finally:
        stop.ask()
        stop.ask()
        await running
        await lease_client.aclose()


async def a_worker(
    store: EventStore, name: str = "idle-1", *models: str, is_alive: bool = True
) -> None:
    """Enter a worker in the roster, which claims nothing."""
    served = models or ("echo",)
    started = WorkerStarted(capacity=1, queues=(), models=served, upstream="echo://", host="here")
    await Roster(store).record(name, started)
    if is_alive:
        await Roster(store).beat(name, Heartbeat(running=0, models=served), ALIVE_MS)
