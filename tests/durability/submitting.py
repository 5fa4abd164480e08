"""Submitting from many tasks, and which of it was acknowledged, and when."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from core.errors import StoreError
from core.store import EventStore
from tests.given import a_job, new_id, submitted

TASKS = 64


class Submitters(AbstractAsyncContextManager["Submitters"]):
    """Tasks that submit for as long as the block lasts, or until the store fails them.

    When the block is over nothing is on its way any more.
    """

    def __init__(self, store: EventStore, tasks: int = TASKS) -> None:
        self._store = store
        self._count = tasks
        self._tasks: list[asyncio.Task[None]] = []
        self._grown = asyncio.Event()
        self._is_over = False
        self.acknowledged: dict[str, float] = {}  # Each job, and when (monotonic).

    async def __aenter__(self) -> "Submitters":
        self._tasks = [asyncio.create_task(self._submit()) for _ in range(self._count)]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)

    async def until(self, jobs: int) -> None:
        """Wait until so many were acknowledged."""
        async with asyncio.timeout(60):
            while len(self.acknowledged) < jobs:
                assert not all(task.done() for task in self._tasks), "the store failed them all"
                self._grown.clear()
                await self._grown.wait()

    async def _submit(self) -> None:
        while not self._is_over:
            job = new_id()
            try:
                await self._store.submit(job, submitted())
            except StoreError:
                self._grown.set()
                return
            self.acknowledged[job] = time.monotonic()
            self._grown.set()


async def submit_many(store: EventStore, jobs: int) -> list[str]:
    """So many acknowledged jobs, from all tasks at once."""
    gate = asyncio.Semaphore(TASKS)

    async def one() -> str:
        async with gate:
            return await a_job(store)

    return list(await asyncio.gather(*(one() for _ in range(jobs))))


async def missing(store: EventStore, jobs: list[str]) -> set[str]:
    """Those that the store does not have."""
    heads = []
    for at in range(0, len(jobs), 500):
        heads += await store.load_many(jobs[at : at + 500])
    return {job for job, head in zip(jobs, heads, strict=True) if head is None}
