"""Workers inside the test's own loop, with an upstream that does what the test says."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Protocol

from consumers.execute import LossLimits
from consumers.stop import Stop
from consumers.upstream.base import Answer, Call, Chunk, Upstream, UpstreamError
from consumers.worker import Identity, Worker
from core.bells import Bells
from core.commands import RecoveryPolicy
from core.events import Usage
from core.records import Bounds
from core.redis import connect
from core.states import Job, has_ended
from core.store import EventStore

LEASE_SECONDS = 0.6
ENDING_SECONDS = 15.0

_numbers = count(1)


class Scripted:
    """An upstream whose answers wait for the test.

    `calls` has one item for each request that came. A request sends its chunks, waits for `gate`,
    then raises the next of `errors` or answers.
    """

    address = "scripted://"

    def __init__(self, *, is_open: bool = True) -> None:
        self.calls: asyncio.Queue[Call] = asyncio.Queue()
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()
        self.errors: list[UpstreamError] = []
        self.served = frozenset({"echo"})
        self.running = 0
        self.running_max = 0
        self.closed = 0  # Requests that were given up before their answer.

    async def models(self) -> frozenset[str]:
        return self.served

    async def aclose(self) -> None:
        pass

    async def stream(self, call: Call) -> AsyncGenerator[Chunk | Answer, None]:
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        self.calls.put_nowait(call)
        is_answered = False
        try:
            yield Chunk(b'{"choices":[{"index":0,"delta":{"content":"hello"}}]}')
            await self.gate.wait()
            if self.errors:
                is_answered = True
                raise self.errors.pop(0)
            is_answered = True
            yield Answer(b'{"said":"hello"}', Usage(1, 2, 3))
        finally:
            self.running -= 1
            self.closed += not is_answered


class Reachable(Protocol):
    """A Redis, or a proxy in front of one."""

    @property
    def url(self) -> str: ...


@asynccontextmanager
async def a_worker(
    server: Reachable,
    upstream: Upstream,
    *,
    shards: int = 1,
    concurrency: int = 2,
    queues: tuple[str, ...] = (),
    grace_seconds: float = 5.0,
    deliveries_max: int = 5,
    lease_seconds: float = LEASE_SECONDS,
) -> AsyncIterator[tuple[Worker, Stop]]:
    """A worker that claims by the time the block begins, and is drained when it ends."""
    client, lease_client = connect(server.url), connect(server.url)
    store = EventStore(client, shards, Bounds(patience_seconds=lease_seconds))
    identity = Identity(
        name=f"worker-{next(_numbers)}",
        host="test",
        concurrency=concurrency,
        queues=queues,
        lease_seconds=lease_seconds,
        grace_seconds=grace_seconds,
    )
    limits = LossLimits(deliveries_max=deliveries_max, recovery_policy=RecoveryPolicy.REQUEUE)
    worker = Worker(identity, store, lease_client, Bells(client), upstream, limits)
    stop, ready = Stop(), asyncio.Event()
    running = asyncio.create_task(worker.run(stop, ready.set))
    claiming = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait((running, claiming), return_when=asyncio.FIRST_COMPLETED)
        yield worker, stop
    finally:
        claiming.cancel()
        if not stop.draining.is_set():
            stop.ask()
        await running
        await client.aclose()
        await lease_client.aclose()


async def ended(store: EventStore, job_id: str) -> Job:
    """The job once it has ended. TimeoutError if that takes too long."""
    async with asyncio.timeout(ENDING_SECONDS):
        while True:
            job = (await store.require(job_id)).job
            if has_ended(job):
                return job
            await asyncio.sleep(0.01)


async def types_of(store: EventStore, job_id: str) -> list[str]:
    """The names of a job's events so far."""
    return [str(entry.event.__struct_config__.tag) for entry in await store.history(job_id)]
