"""Real `respool` processes for benchmarks, and the store that they share."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from msgspec import Raw

from core.events import Submitted
from core.ids import RANDOM_BITS, job_id
from core.log import LogEntry
from core.records import Bounds
from core.redis import connect
from core.roster import Roster
from core.store import EventStore
from migrations.runner import migrate

CHAT = Raw(b'{"messages":[{"role":"user","content":"hello"}]}')
ENDLESS = "echo://?latency_ms=3600000"
RESPOOL = (str(Path(sys.executable).parent / "respool"),)
NOWHERE = Path(os.devnull)
_LOOK_EVERY_SECONDS = 0.002
_PATIENCE_SECONDS = 60.0


class Role:
    """A running `respool api` or `respool worker`, or of another program that takes a role's name."""

    def __init__(
        self,
        role: str,
        redis_url: str,
        program: Sequence[str] = RESPOOL,
        log: Path = NOWHERE,
        /,
        **settings: str,
    ) -> None:
        environment = os.environ | {"REDIS_URL": redis_url, "WORKER_PORT": "0"} | settings
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*program, role], env=environment, stdout=subprocess.DEVNULL, stderr=output
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End it as the machine's out-of-memory killer would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@contextmanager
def role(
    name: str,
    redis_url: str,
    program: Sequence[str] = RESPOOL,
    log: Path = NOWHERE,
    /,
    **settings: str,
) -> Iterator[Role]:
    """A process that does not outlive the block."""
    process = Role(name, redis_url, program, log, **settings)
    try:
        yield process
    finally:
        process.kill()


@asynccontextmanager
async def fresh_store(redis_url: str) -> AsyncIterator[EventStore]:
    """An empty store, which takes any number of jobs."""
    client = connect(redis_url)
    await client.flushall()
    await migrate(client)
    try:
        yield EventStore(client, 1, Bounds(waiting_max=10**9, scheduled_max=10**9))
    finally:
        await client.aclose()


async def submit(store: EventStore, *, model: str = "echo", delay_ms: int = 0) -> str:
    """Submit a job that may be tried for ever; its id."""
    job = job_id(time.time_ns() // 1_000_000, secrets.randbits(RANDOM_BITS), 0)
    submitted = Submitted(
        queue="default",
        model=model,
        tenant="default",
        request=CHAT,
        delay_ms=delay_ms,
        timeout_ms=3_600_000,
        attempts_max=100,
    )
    await store.submit(job, submitted)
    return job


async def event_of(store: EventStore, job: str, kind: type, after_version: int = 0) -> LogEntry:
    """Wait for the first event of `kind` that a job has after a version. TimeoutError after a minute."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            head = await store.require(job)
            if head.job.version > after_version:
                for entry in await store.history(job):
                    if entry.version > after_version and isinstance(entry.event, kind):
                        return entry
            await asyncio.sleep(_LOOK_EVERY_SECONDS)


async def until_alive(store: EventStore, count: int) -> None:
    """Wait until so many workers are. TimeoutError after a minute."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            members = await Roster(store).members()
            if sum(member.heartbeat is not None for member in members) >= count:
                return
            await asyncio.sleep(0.05)


async def now_ms(store: EventStore) -> int:
    """Redis's clock."""
    seconds, microseconds = await store.client.time()
    return int(seconds) * 1_000 + int(microseconds) // 1_000
