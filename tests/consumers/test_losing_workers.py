"""Workers that are killed, frozen or told to stop in the middle of a job."""

import asyncio
import signal

import pytest

from consumers.claims import Claims
from consumers.upstream.base import UpstreamError
from core.commands import Cancel, Claim, Requeue
from core.errors import Conflict, NotOwner
from core.events import (
    AttemptLost,
    Claimed,
    Completed,
    ErrorKind,
    Failed,
    LostBecause,
    WorkerLost,
)
from core.fleet import WorkerStatus
from core.job import decide
from core.log import LogEntry, tag_of
from core.output import read_output
from core.roster import Roster
from core.states import Completed as CompletedState
from core.states import Failed as FailedState
from core.states import Queued
from core.store import Claim as Proof
from core.store import EventStore
from tests.consumers.fleet import Scripted, a_worker, ended, types_of
from tests.consumers.workers import LEASE_SECONDS, StartWorker, claimed_by_another, streaming
from tests.given import a_job
from tests.servers import RedisServer
from tests.store.audit import audit


async def test_a_killed_worker_s_job_is_finished_once_by_another(
    server: RedisServer, store: EventStore, start_worker: StartWorker
) -> None:
    job = await a_job(store)
    victim = start_worker()
    await streaming(store, job)
    victim.kill()
    async with a_worker(server, Scripted()):
        assert isinstance(await ended(store, job), CompletedState)
    assert await types_of(store, job) == [
        "submitted",
        "claimed",
        "attempt_lost",
        "claimed",
        "completed",
    ]
    _, first, lost, second, completed = [entry.event for entry in await store.history(job)]
    assert isinstance(first, Claimed)
    assert isinstance(lost, AttemptLost)
    assert isinstance(second, Claimed)
    assert isinstance(completed, Completed)
    assert (lost.worker, lost.why) == (first.worker, LostBecause.LEASE_RAN_OUT)
    assert (completed.claim, second.attempt) == (2, 1)
    assert [entry.subject for entry in await _workers_lost(store)] == [f"worker:{first.worker}"]
    await audit(store)


async def _workers_lost(store: EventStore) -> list[LogEntry]:
    log = await store.feed(0, "0-0")
    return [entry for entry in log if isinstance(entry.event, WorkerLost)]


async def test_a_worker_that_was_frozen_for_longer_than_its_lease_writes_nothing(
    server: RedisServer, store: EventStore, start_worker: StartWorker
) -> None:
    job = await a_job(store)
    frozen = start_worker()
    await streaming(store, job)
    frozen.send(signal.SIGSTOP)
    async with a_worker(server, Scripted(), lease_seconds=LEASE_SECONDS):
        await ended(store, job)
    history = await types_of(store, job)
    chunks = [chunk.claim for chunk in await read_output(store, job)]
    frozen.send(signal.SIGCONT)
    frozen.send(signal.SIGTERM)
    assert frozen.wait() == 0
    assert await types_of(store, job) == history
    assert [chunk.claim for chunk in await read_output(store, job)] == chunks
    await audit(store)


async def test_a_job_longer_than_a_lease_keeps_its_worker(
    store: EventStore, start_worker: StartWorker
) -> None:
    for _ in range(2):
        start_worker("echo://?tokens=30&tokens_per_second=8", LEASE_SECONDS="3")
    job = await a_job(store)
    await ended(store, job)
    assert await types_of(store, job) == ["submitted", "claimed", "completed"]


async def test_a_job_that_kills_every_worker_is_parked_with_their_names(
    server: RedisServer, store: EventStore, start_worker: StartWorker
) -> None:
    job = await a_job(store)
    killed: list[str] = []
    for _ in range(2):
        worker = start_worker("echo://?latency_ms=60000", MAX_DELIVERIES="2")
        killed.append(await claimed_by_another(store, job, killed))
        worker.kill()
    async with a_worker(server, Scripted(), deliveries_max=2):
        parked = await ended(store, job)
    assert list(parked.lost_workers) == killed
    assert (await types_of(store, job))[-2:] == ["attempt_lost", "failed"]
    await audit(store)


async def test_a_worker_that_was_taken_for_lost_is_back_on_the_log(
    server: RedisServer, store: EventStore, start_worker: StartWorker
) -> None:
    job = await a_job(store)
    frozen = start_worker()
    await streaming(store, job)
    name = await claimed_by_another(store, job, [])
    frozen.send(signal.SIGSTOP)
    async with a_worker(server, Scripted(), lease_seconds=LEASE_SECONDS):
        await _status(store, name, WorkerStatus.LOST)
    frozen.send(signal.SIGCONT)
    await _status(store, name, WorkerStatus.STARTED)
    later = await a_job(store)
    assert await claimed_by_another(store, later, []) == name
    frozen.send(signal.SIGTERM)
    assert frozen.wait() == 0
    facts = [entry for entry in await store.feed(0, "0-0") if entry.subject == f"worker:{name}"]
    assert [tag_of(entry.event) for entry in facts] == [
        "worker_started",
        "worker_lost",
        "worker_started",
        "worker_draining",
        "worker_stopped",
    ]


async def _status(store: EventStore, name: str, status: WorkerStatus) -> None:
    """Wait until the log says so of the worker."""
    async with asyncio.timeout(15):
        while True:
            for member in await Roster(store).members():
                if (member.name, member.worker.status) == (name, status):
                    return
            await asyncio.sleep(0.01)


async def test_a_worker_that_stalls_between_reading_and_claiming_claims_nothing(
    server: RedisServer, store: EventStore
) -> None:
    job = await a_job(store)
    [stalled] = await Claims(store, "stalled", (), lambda: {"echo"}).take(1)
    proof, known = Proof("stalled", stalled.entry), stalled.head.job
    upstream = Scripted()
    upstream.errors.append(UpstreamError(ErrorKind.BAD_REQUEST, "no"))
    async with a_worker(server, upstream, lease_seconds=LEASE_SECONDS):
        await ended(store, job)
    with pytest.raises(Conflict):
        await store.append(job, known, decide(known, Claim("stalled")), proof)
    again = (await store.execute(job, Requeue("me"))).job
    with pytest.raises(NotOwner):
        await store.append(job, again, decide(again, Claim("stalled")), proof)
    assert (await types_of(store, job))[-2:] == ["failed", "requeued"]
    await audit(store)


async def test_a_worker_whose_job_was_cancelled_requeued_and_claimed_again_writes_nothing(
    server: RedisServer, store: EventStore, start_worker: StartWorker
) -> None:
    job = await a_job(store)
    frozen = start_worker()
    await streaming(store, job)
    frozen.send(signal.SIGSTOP)
    await store.execute(job, Cancel("me"))
    upstream = Scripted(is_open=False)
    async with a_worker(server, upstream, lease_seconds=LEASE_SECONDS):
        await ended(store, job)  # Its lease runs out, and the cancel counts.
        await store.execute(job, Requeue("me"))
        await upstream.calls.get()
        history = await types_of(store, job)
        frozen.send(signal.SIGCONT)
        frozen.send(signal.SIGTERM)
        assert frozen.wait() == 0
        assert await types_of(store, job) == history
        upstream.gate.set()
        await ended(store, job)
    assert history[-4:] == ["attempt_lost", "cancelled", "requeued", "claimed"]
    assert {chunk.claim for chunk in await read_output(store, job)} == {1, 2}
    await audit(store)


async def test_under_the_policy_to_fail_a_killed_worker_s_job_fails_and_names_it(
    store: EventStore, start_worker: StartWorker
) -> None:
    job = await a_job(store)
    victim = start_worker()
    name = await claimed_by_another(store, job, [])
    victim.kill()
    start_worker(RECOVERY_POLICY="fail")
    assert isinstance(await ended(store, job), FailedState)
    event = (await store.history(job))[-1].event
    assert isinstance(event, Failed)
    assert event.error.kind is ErrorKind.WORKER_LOST
    assert name in event.error.message
    again = (await store.execute(job, Requeue("operator"))).job
    assert isinstance(again, Queued)
    assert (again.lost_workers, again.claims) == ((), 1)
    assert isinstance(await ended(store, job), CompletedState)
    await audit(store)
