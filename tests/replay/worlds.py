"""A store in which something of everything has happened, and what verify says of it."""

from random import Random

from consumers.claims import Claims
from core.commands import Claim
from core.events import WorkerLost, WorkerStarted, WorkerStopped
from core.job import decide
from core.queues import Queues
from core.roster import Roster
from core.states import Queued
from core.store import Claim as Proof
from core.store import EventStore
from projections.replay.verify import verify
from tests.given import a_job
from tests.projections.views import catch_up, lives

STARTED = WorkerStarted(capacity=2, queues=(), models=("echo",), upstream="echo:", host="here")


async def some_of_everything(store: EventStore, jobs: int = 60, seed: int = 1) -> None:
    """Jobs in every state, workers and queues, and views that are at the end of the log."""
    roster, queues = Roster(store), Queues(store)
    await queues.set_paused("batch", paused=False, by="operator")
    await lives(store, jobs, Random(seed))
    # Whatever is in a lane is delivered, so that what runs is pending, too.
    await Claims(store, "worker-0", (), lambda: {"echo", "llama3.2:1b"}).take(10 * jobs)
    await roster.record(f"worker-{seed}", STARTED)
    await roster.record(f"stopped-{seed}", STARTED)
    await roster.record(f"stopped-{seed}", WorkerStopped())
    await roster.record(f"lost-{seed}", STARTED)
    await roster.record(f"lost-{seed}", WorkerLost(by=f"worker-{seed}"))
    await queues.set_paused("batch", paused=True, by="operator")
    await queues.set_paused("default", paused=True, by="operator")
    await queues.set_paused("default", paused=False, by="operator")
    await catch_up(store)


async def findings(store: EventStore) -> list[str]:
    """Every difference, in words."""
    report, _ = await verify(store)
    return [str(one) for one in report.findings]


async def claimed(store: EventStore, worker: str = "worker-0") -> str:
    """A job that a worker runs, claimed as it would."""
    job = await a_job(store)
    while True:
        for delivery in await Claims(store, worker, (), lambda: {"echo"}).take(1):
            if isinstance(delivery.head.job, Queued):
                events = decide(delivery.head.job, Claim(worker))
                proof = Proof(worker, delivery.entry)
                await store.append(delivery.job_id, delivery.head.job, events, proof)
            if delivery.job_id == job:
                return job
