"""The world of one run: a storm of work and faults, then a calm in which everything comes to an end."""

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final

from consumers.execute import LossLimits
from core.commands import RecoveryPolicy
from core.records import Bounds
from core.states import has_ended
from core.store import EventStore
from tests.simulation.clients import Acquired, Client
from tests.simulation.network import DirectRedis, Network, Process, Weather
from tests.simulation.server import Server
from tests.simulation.witness import Broken, Witness
from tests.simulation.workers import SimulatedWorker, Upstream, WatchedStore, rob
from tests.store.audit import audit

_CALM_SECONDS_MAX: Final = 300.0
_STOP_SECONDS_MAX: Final = 60.0
_AUDITED_SHARE: Final = 0.1  # Of the blows: the store agrees with its log at any time.
_CLIENTS_MAX: Final = 3
_WORKERS_MAX: Final = 4


class Simulation:
    """The world of one run."""

    def __init__(self, server: Server, seed: int) -> None:
        self.seed = seed
        self.random = random = Random(seed)
        self.weather = Weather(random)
        self.shards = random.choice((1, 1, 2))
        self.bounds = Bounds(
            waiting_max=random.choice((3, 1_000)), patience_seconds=random.choice((0.5, 2.0))
        )
        self.lease_seconds = random.choice((0.6, 1.2, 2.4, 2.4))
        self.limits = LossLimits(
            deliveries_max=random.choice((1, 2, 5)),
            recovery_policy=random.choice((*RecoveryPolicy, RecoveryPolicy.REQUEUE)),
        )
        self.pause_seconds = random.choice((0.05, 0.2, 0.6))
        self.robbers_per_second = random.choice((0.0, 0.0, 1.0, 4.0))
        self.store = EventStore(DirectRedis(server), self.shards, self.bounds)
        self.witness = Witness(server, self.store.shards, self.bounds.waiting_max)
        self.network = Network(server, self.weather, self.witness)
        self.told = Acquired()
        self.workers: list[SimulatedWorker] = []
        self.clients: list[tuple[Process, Client]] = []
        self.processes: list[Process] = []
        self.blows: Counter[str] = Counter()

    async def play(self) -> None:
        """The whole run. Raises Broken."""
        for _ in range(self.random.randint(1, 3)):
            self.start_worker(self._some_queues())
        for _ in range(self.random.randint(1, 2)):
            self.start_client()
        await self._storm()
        await self._calm()
        self.witness.check_submissions(self.told.accepted)
        heads = await audit(self.store)
        if {job: head.job for job, head in heads.items()} != self.witness.jobs:
            raise Broken("the log holds what the witness has not seen")

    def process(self, kind: str) -> Process:
        process = Process(f"{kind}-{len(self.processes) + 1}")
        self.processes.append(process)
        return process

    def open_store(self, process: Process) -> WatchedStore:
        return WatchedStore(self.network, self.witness, process, self.shards, self.bounds)

    def _some_queues(self) -> tuple[str, ...]:
        return self.random.choice(((), (), (), ("default",), ("batch",)))

    def start_worker(self, queues: tuple[str, ...] = ()) -> SimulatedWorker:
        process = self.process("worker")
        store = self.open_store(process)
        worker = SimulatedWorker(
            self.network,
            process,
            store,
            self.random,
            Upstream(self.random, process.name, self.pause_seconds),
            self.limits,
            self.lease_seconds,
            queues,
        )
        self.workers.append(worker)
        process.spawn(worker.run())
        return worker

    def start_client(self) -> None:
        process = self.process("client")
        client = Client(self.network, process, self.open_store(process), self.random, self.told)
        self.clients.append((process, client))
        process.spawn(client.run())

    def end(self) -> None:
        for process in self.processes:
            process.end()

    def went_wrong(self, about: dict[str, Any]) -> None:
        """The loop found an error that nobody has looked at."""
        error = about.get("exception")
        self.network.break_off(error or Broken(str(about.get("message"))))

    async def _storm(self) -> None:
        robbing = asyncio.create_task(self._keep_robbing())
        try:
            await self._blow()
        finally:
            robbing.cancel()

    async def _keep_robbing(self) -> None:
        while self.robbers_per_second:
            await asyncio.sleep(self.random.expovariate(self.robbers_per_second))
            self._rob()

    async def _blow(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self.random.uniform(1.0, 6.0)
        blows: dict[str, Callable[[], None]] = {
            "crash": self._crash_one,
            "freeze": self._freeze_one,
            "cut": self._cut_one,
            "stop": self._stop_one,
            "redis away": self._redis_away,
            "robbery": self._rob,
            "newcomer": self._join,
        }
        possible = self.random.sample(list(blows), k=self.random.randint(1, len(blows)))
        while loop.time() < until:
            await asyncio.sleep(self.random.expovariate(2.0))
            blow = self.random.choice(possible)
            self.blows[blow] += 1
            blows[blow]()
            if self.random.random() < _AUDITED_SHARE:
                await audit(self.store)

    def _any_process(self) -> Process | None:
        alive = [process for process in self.processes if not process.is_dead]
        return self.random.choice(alive) if alive else None

    def _crash_one(self) -> None:
        process = self._any_process()
        if process is not None:
            self.network.say(process.name, "crashes")
            process.end()
        self._join()

    def _freeze_one(self) -> None:
        process, seconds = self._any_process(), self.random.uniform(0.1, 3 * self.lease_seconds)
        if process is not None:
            self.network.say(process.name, f"freezes for {seconds:.3f} s")
            process.frozen_until = asyncio.get_running_loop().time() + seconds

    def _cut_one(self) -> None:
        process, seconds = self._any_process(), self.random.uniform(0.1, 3 * self.lease_seconds)
        if process is not None:
            self.network.say(process.name, f"is cut off for {seconds:.3f} s")
            self.network.cut(process, seconds)

    def _redis_away(self) -> None:
        seconds = self.random.uniform(0.1, 2.0)
        self.network.say("redis", f"is away for {seconds:.3f} s")
        self.network.cut(None, seconds)

    def _stop_one(self) -> None:
        alive = [worker for worker in self.workers if not worker.process.is_dead]
        if alive:
            worker = self.random.choice(alive)
            self.network.say(worker.process.name, "is asked to stop")
            worker.ask_to_stop()

    def _rob(self) -> None:
        process = self.process("robber")
        process.spawn(rob(self.open_store(process), process.name, self.limits))

    def _join(self) -> None:
        """Somebody new, where there is room."""
        working = sum(not worker.process.is_dead for worker in self.workers)
        calling = sum(not process.is_dead for process, _ in self.clients)
        if working < _WORKERS_MAX and self.random.random() < 0.7:
            self.start_worker(self._some_queues())
        elif calling < _CLIENTS_MAX:
            self.start_client()

    async def _calm(self) -> None:
        """No more faults: what was accepted comes to its end, and the workers stop when asked."""
        loop = asyncio.get_running_loop()
        self.weather.calm()
        self.network.say("", "calm")
        self.network.away_until = 0.0
        for process in self.processes:
            process.frozen_until = process.cut_until = 0.0
        for _, client in self.clients:
            client.is_calm = True
        for worker in self.workers:
            worker.upstream.is_calm = True
        until = loop.time() + _CALM_SECONDS_MAX
        while not self._is_at_rest():
            if loop.time() > until:
                raise Broken(f"{_CALM_SECONDS_MAX:g} s of calm, and still open: {self._open()}")
            if not any(self._works(worker) for worker in self.workers):
                self.start_worker().upstream.is_calm = True
            await asyncio.sleep(0.2)
        await self._stop_workers()

    def _works(self, worker: SimulatedWorker) -> bool:
        return worker.serves_all and not worker.is_asked_to_stop and not worker.process.is_dead

    def _is_at_rest(self) -> bool:
        is_calling = any(not process.is_dead for process, _ in self.clients)
        return not is_calling and not self._open()

    def _open(self) -> list[str]:
        return [job for job, state in self.witness.jobs.items() if not has_ended(state)]

    async def _stop_workers(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + _STOP_SECONDS_MAX
        for worker in self.workers:
            worker.ask_to_stop()
        while alive := [one.process.name for one in self.workers if not one.process.is_dead]:
            if loop.time() > until:
                raise Broken(f"asked to stop {_STOP_SECONDS_MAX:g} s ago, and still there: {alive}")
            await asyncio.sleep(0.1)
        while self.network.in_flight:
            await asyncio.sleep(0.5)
