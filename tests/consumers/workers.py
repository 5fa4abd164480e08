"""Worker processes for tests, and what they are seen to do."""

import asyncio
from typing import Protocol

from core.output import read_output
from core.states import Running
from core.store import EventStore
from tests.processes import Process

LEASE_SECONDS = 1
SLOW = "echo://?tokens=30&tokens_per_second=15"  # Two seconds: longer than a lease.
ENDLESS = "echo://?latency_ms=600000"
PATIENCE_SECONDS = 20


class StartWorker(Protocol):
    def __call__(self, upstream_url: str = SLOW, **environment: str) -> Process: ...


async def streaming(store: EventStore, job: str) -> None:
    """Wait until the job's first tokens are there."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await read_output(store, job):
            await asyncio.sleep(0.01)


async def claimed_by_another(store: EventStore, job: str, others: list[str]) -> str:
    """Wait until a worker that is none of `others` runs the job; its name."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            now = (await store.require(job)).job
            if isinstance(now, Running) and now.worker not in others:
                return now.worker
            await asyncio.sleep(0.01)
