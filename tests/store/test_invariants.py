"""Random commands from several writers, each with its own idea of the state: the invariants hold."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis.asyncio import Redis

from consumers.claims import Claims
from consumers.execute import LossLimits
from consumers.recovery import Recovery
from core.commands import (
    Cancel,
    Claim,
    Command,
    Complete,
    ConfirmCancel,
    Enqueue,
    Expire,
    Fail,
    Lose,
    RecoveryPolicy,
    Requeue,
)
from core.errors import Conflict, NotOwner
from core.events import ErrorKind, JobError, LostBecause, Priority, Timings
from core.job import CommandRefused, decide
from core.nodes import primaries
from core.records import Bounds
from core.redis import connect
from core.roster import Roster
from core.states import Job, Queued
from core.store import Claim as Proof
from core.store import EventStore
from core.timers import Timers
from migrations.runner import migrate
from tests.given import CHAT, new_id, submitted
from tests.servers import RedisServer
from tests.store.audit import audit

WORKERS = ("w1", "w2", "w3")
PICKS = st.integers(0, 10**6)
ERRORS = st.sampled_from(
    [JobError(ErrorKind.OVERLOAD, "busy"), JobError(ErrorKind.BAD_REQUEST, "no")]
)
# What a command is, once the claim is known that its sender believes to hold.
COMMANDS: st.SearchStrategy[Callable[[int], Command]] = st.one_of(
    st.just(lambda claim: Complete(claim, CHAT, Timings(ran_ms=1))),
    ERRORS.map(lambda error: lambda claim: Fail(claim, error, jitter=0.0)),
    st.tuples(st.sampled_from(LostBecause), st.integers(1, 4)).map(
        lambda loss: lambda claim: Lose(claim, *loss)
    ),
    st.just(ConfirmCancel),
    st.just(lambda _: Cancel("somebody")),
    st.just(lambda _: Requeue("operator")),
    st.just(lambda _: Enqueue()),
    st.just(lambda _: Expire()),
)
# How old what a writer knows is (0: the newest), and how far behind its claim.
AGES = st.sampled_from([0, 0, 0, 1, 2, 5])
BEHIND = st.sampled_from([0, 0, 0, 1])


class Writers(RuleBasedStateMachine):
    """Several stores over one Redis; what each knows of a job may be old."""

    url = ""
    shards = 1

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clients: list[Redis] = []
        self.jobs: list[str] = []
        self.known: dict[str, list[Job]] = {}
        self.run(self.open())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def open(self) -> None:
        self.clients = [connect(self.url) for _ in range(3)]
        for node in await primaries(self.clients[0]):
            await node.flushall()
        await migrate(self.clients[0], self.shards)
        self.stores = [EventStore(client, self.shards, Bounds()) for client in self.clients]
        self.claims = {
            worker: Claims(store, worker, (), lambda: {"echo"})
            for worker, store in zip(WORKERS, self.stores, strict=True)
        }

    def teardown(self) -> None:
        self.run(self.close())
        self.runner.close()

    async def close(self) -> None:
        for client in self.clients:
            await client.aclose()

    @rule(
        priority=st.sampled_from(Priority),
        queue=st.sampled_from(["default", "batch"]),
        delay_ms=st.sampled_from([0, 0, 1, 60_000]),
        deadline_ms=st.sampled_from([None, None, 2, 60_000]),
        key=st.sampled_from([None, "k-1", "k-2"]),
        shard=st.integers(0, 3),
    )
    def submit(self, shard: int, **changes: Any) -> None:
        async def work() -> None:
            job = new_id(shard % self.shards)
            recorded = await self.stores[0].submit(job, submitted(attempts_max=2, **changes))
            self.jobs.append(job)
            self.known[job] = [recorded.job]

        self.run(work())

    @rule(want=st.integers(1, 4), worker=st.sampled_from(WORKERS), starts=st.booleans())
    def claim(self, want: int, worker: str, starts: bool) -> None:
        """A worker takes deliveries; one that does not start them leaves them stranded."""

        async def work() -> None:
            store = self.stores[WORKERS.index(worker)]
            for delivery in await self.claims[worker].take(want):
                if starts and isinstance(delivery.head.job, Queued):
                    events = decide(delivery.head.job, Claim(worker))
                    proof = Proof(worker, delivery.entry)
                    recorded = await store.append(delivery.job_id, delivery.head.job, events, proof)
                    self.known[delivery.job_id].append(recorded.job)

        self.run(work())

    @rule(
        commands=st.lists(st.tuples(PICKS, PICKS, AGES, BEHIND, COMMANDS), min_size=1, max_size=8)
    )
    def all_at_once(self, commands: Sequence[tuple[int, int, int, int, Any]]) -> None:
        """Commands from several writers at the same time, decided on any state ever seen."""

        async def work() -> None:
            await asyncio.gather(*(self.execute(*command) for command in commands))

        if self.jobs:
            self.run(work())

    async def execute(self, which: int, writer: int, age: int, behind: int, make: Any) -> None:
        job_id = self.jobs[which % len(self.jobs)]
        seen = self.known[job_id]
        known = seen[max(0, len(seen) - 1 - age)]
        command = make(max(1, known.claims - behind))
        store = self.stores[writer % len(self.stores)]
        try:
            recorded = await store.append(job_id, known, decide(known, command))
        except Conflict as conflict:
            self.learn_newer(job_id, known, conflict.newer)
        except CommandRefused:
            pass
        else:
            self.known[job_id].append(recorded.job)

    @rule(which=PICKS)
    def claim_what_another_holds(self, which: int) -> None:
        """Who does not own the lane entry cannot claim its job."""

        async def work() -> None:
            job_id = self.jobs[which % len(self.jobs)]
            head = await self.stores[0].require(job_id)
            if isinstance(head.job, Queued):
                proof = Proof("nobody", head.entry or "")
                with pytest.raises(NotOwner):
                    await self.stores[0].append(
                        job_id, head.job, decide(head.job, Claim("nobody")), proof
                    )

        if self.jobs:
            self.run(work())

    def learn_newer(self, job_id: str, known: Job, newer: Job | None) -> None:
        assert newer is not None
        assert newer.version > known.version
        self.known[job_id].append(newer)

    @rule(worker=st.sampled_from(WORKERS))
    def recover(self, worker: str) -> None:
        """A worker takes back everything, as if all leases had run out."""

        async def work() -> None:
            store = self.stores[WORKERS.index(worker)]
            limits = LossLimits(deliveries_max=3, recovery_policy=RecoveryPolicy.REQUEUE)
            recovery = Recovery(store, Roster(store), worker, 0.0, limits, lambda *_: False)
            await recovery.recover()

        self.run(work())

    @rule()
    def timers(self) -> None:
        """Every process fires what is due."""

        async def work() -> None:
            await asyncio.gather(*(Timers(store).fire_due() for store in self.stores))

        self.run(work())

    @invariant()
    def everything_agrees(self) -> None:
        async def work() -> None:
            heads = await audit(self.stores[0])
            for job, head in heads.items():
                self.known[job].append(head.job)

        self.run(work())


@pytest.mark.parametrize("shards", [1, 4])
def test_the_store_agrees_with_its_log_whatever_several_writers_do(
    server: RedisServer, shards: int
) -> None:
    machine = type("Writers", (Writers,), {"url": server.url, "shards": shards})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
