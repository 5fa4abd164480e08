"""A life for a store to record: every state that a job, a worker or a queue can be in, and how it got there.

    python -m tests.stores.living tests/stores/library-N.jsonl

makes the fixture of the release that is checked out. What is due is due within a minute or so of the
recording, so that whoever loads it finds all of it due.
"""

import asyncio
import sys
import tempfile
from itertools import cycle, product
from pathlib import Path
from typing import Any, Final

from consumers.claims import Claims
from consumers.upstream.base import UpstreamError
from core.commands import Cancel, Claim, Fail, Lose, Requeue
from core.events import (
    ErrorKind,
    Gpu,
    JobError,
    LostBecause,
    Priority,
    WorkerDraining,
    WorkerStarted,
)
from core.fleet import WorkerStatus
from core.job import decide
from core.queues import Queues
from core.records import Bounds
from core.redis import connect
from core.roster import Heartbeat, Roster
from core.states import Job, Running, has_ended
from core.store import Claim as Proof
from core.store import EventStore, IdempotencyKey
from migrations.runner import migrate
from tests.consumers.fleet import Scripted, a_worker
from tests.given import new_id, submitted
from tests.servers import running, valkey
from tests.stores.recording import recorded, written

SHARDS: Final = 2
MODELS: Final = ("echo", "llama3.2:3b")
SOON_MS: Final = 60_000
ORDINARY_JOBS: Final = 60
AN_HOUR_MS: Final = 3_600_000

_shards = cycle(range(SHARDS))


async def live(url: str, store: EventStore) -> None:
    """Live everything but what a worker has to be there for at the end."""
    upstream = Scripted()
    upstream.served = frozenset(MODELS)
    await _lose_a_worker(store)
    async with a_worker(_At(url), upstream, shards=SHARDS, concurrency=4):
        await _ordinary_jobs(store)
        await _endings(store, upstream)
        await _until_lost(store, "host-9-gone")
    queues = Queues(store)
    await queues.set_paused("batch", paused=True, by="ops", reason="maintenance")
    await queues.set_paused("batch", paused=False, by="ops")
    await queues.set_paused("nightly", paused=True, by="ops", reason="only at night")
    await _waiting(store)


class _At:
    def __init__(self, url: str) -> None:
        self.url = url


async def _submit(store: EventStore, again: str | None = None, **changes: Any) -> str:
    job = new_id(next(_shards))
    tenant = changes.get("tenant", "default")
    idempotency = IdempotencyKey(tenant, again, f"of {again}") if again else None
    await store.submit(job, submitted(**changes), idempotency)
    return job


async def _ended(store: EventStore, *jobs: str) -> list[Job]:
    async with asyncio.timeout(30):
        while True:
            states = [(await store.require(job)).job for job in jobs]
            if all(map(has_ended, states)):
                return states
            await asyncio.sleep(0.02)


async def _ordinary_jobs(store: EventStore) -> None:
    kinds = cycle(product(("default", "batch", "chat-1"), MODELS, Priority, ("default", "acme")))
    jobs = []
    for number, (queue, model, priority, tenant) in zip(range(ORDINARY_JOBS), kinds, strict=False):
        job = await _submit(
            store,
            again=f"order {number}" if number % 3 == 0 else None,
            queue=queue,
            model=model,
            priority=priority,
            tenant=tenant,
            key=f"k-{number % 3}" if number % 8 == 0 else None,
            delay_ms=50 if number % 4 == 0 else 0,
            deadline_ms=AN_HOUR_MS if number % 5 == 0 else None,
            metadata={"order": str(number), "naïve": "♥"} if number % 2 else {},
            traceparent=f"00-{number:032x}-{number:016x}-01" if number % 7 == 0 else None,
        )
        jobs.append(job)
    await _ended(store, *jobs)


async def _endings(store: EventStore, upstream: Scripted) -> None:
    """Failed, cancelled, expired, poisoned; each also requeued, and then it lives again."""
    for requeued in (False, True):
        upstream.errors = [UpstreamError(ErrorKind.BAD_REQUEST, "no such role: 'sytem'")]
        failed = await _submit(store)
        await _ended(store, failed)
        waiting = await _submit(store, queue="default", model="served-by-nobody")
        await store.execute(waiting, Cancel(by="ops", reason="not needed"))
        scheduled = await _submit(store, delay_ms=AN_HOUR_MS)
        await store.execute(scheduled, Cancel(by="api"))
        expired = await _submit(store, model="served-by-nobody", deadline_ms=5)
        upstream.gate.clear()
        stopped = await _submit(store)
        await upstream.calls.get()
        while not isinstance((await store.require(stopped)).job, Running):
            await asyncio.sleep(0.01)
        await store.execute(stopped, Cancel(by="api", reason="too slow"))
        await _ended(store, stopped, expired)
        upstream.gate.set()
        poisoned = await _submit(store, model="served-by-nobody")
        for worker in ("host-1-aa", "host-2-bb"):
            await store.execute(poisoned, Claim(worker))
            claims = (await store.require(poisoned)).job.claims
            await store.execute(poisoned, Lose(claims, LostBecause.LEASE_RAN_OUT, 2))
        if requeued:
            for job in (failed, scheduled, stopped):
                await store.execute(job, Requeue(by="ops"))
            await _ended(store, failed, scheduled, stopped)
            for job in (waiting, poisoned, expired):  # Nobody serves them, so they wait.
                await store.execute(job, Requeue(by="ops"))
    upstream.errors = [UpstreamError(ErrorKind.OUT_OF_MEMORY, "CUDA out of memory")]
    twice = await _submit(store, attempts_max=2)
    await _ended(store, twice)


async def _lose_a_worker(store: EventStore) -> None:
    """One that starts and is never heard of again: whoever works next says so on the log."""
    await Roster(store).record("host-9-gone", _started("host-9"))


async def _until_lost(store: EventStore, name: str) -> None:
    async with asyncio.timeout(30):
        while True:
            members = {member.name: member.worker for member in await Roster(store).members()}
            if members[name].status is WorkerStatus.LOST:
                return
            await asyncio.sleep(0.05)


def _started(host: str) -> WorkerStarted:
    gpus = (Gpu(index=0, name="NVIDIA RTX A4000", memory_bytes=16 * 2**30),)
    return WorkerStarted(
        capacity=2, queues=("default", "batch"), models=MODELS, upstream="http://10.0.0.5:8000", host=host, gpus=gpus
    )  # fmt: skip


async def _waiting(store: EventStore) -> None:
    """What is not over: in each lane, scheduled by each cause, and running."""
    for priority in Priority:
        await _submit(store, queue="nightly", priority=priority, deadline_ms=AN_HOUR_MS)
        await _submit(store, priority=priority, model="llama3.2:3b")
    await _submit(store, delay_ms=SOON_MS, deadline_ms=2 * AN_HOUR_MS)
    await _submit(store, delay_ms=SOON_MS, queue="nightly", again="tonight")
    roster = Roster(store)
    for name, host in (("host-1-busy", "host-1"), ("host-2-drains", "host-2")):
        await roster.record(name, _started(host))
        beat = Heartbeat(running=2, models=MODELS)
        await roster.beat(name, beat, SOON_MS)
    for fate in ("runs", "is to be cancelled", "comes back", "failed once", "had a crash"):
        await _submit(store, queue="held", metadata={"fate": fate})
    claims = Claims(store, "host-1-busy", ("held",), lambda: {"echo"})
    for delivery in await claims.take(5):
        assert delivery.submitted is not None
        job, fate = delivery.job_id, delivery.submitted.metadata["fate"]
        claim = decide(delivery.head.job, Claim("host-1-busy"))
        proof = Proof("host-1-busy", delivery.entry)
        number = (await store.append(job, delivery.head.job, claim, proof)).job.claims
        match fate:
            case "is to be cancelled":
                await store.execute(job, Cancel(by="ops", reason="wrong model"))
            case "comes back":
                await store.execute(job, Lose(number, LostBecause.DRAINED, 5))
            case "failed once":
                error = JobError(ErrorKind.OVERLOAD, "busy", retry_after_ms=SOON_MS)
                await store.execute(job, Fail(number, error, jitter=0.5))
            case "had a crash":
                await store.execute(job, Lose(number, LostBecause.LEASE_RAN_OUT, 5))
    await roster.record("host-2-drains", WorkerDraining(running=1))
    await _submit(store, queue="held-too")
    assert await Claims(store, "host-2-drains", ("held-too",), lambda: {"echo"}).take(1)


async def recorded_life() -> bytes:
    """A store that has lived, as a recording."""
    with tempfile.TemporaryDirectory() as folder, running(valkey(Path(folder))) as server:
        client = connect(server.url)
        await migrate(client, SHARDS)
        await live(server.url, EventStore(client, SHARDS, Bounds()))
        recording = written(await recorded(client))
        await client.aclose()
        return recording


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(asyncio.run(recorded_life()))
