"""Clients: the API's own desk, and somebody who believes what it tells him."""

import asyncio
from collections.abc import Sequence
from random import Random

from api.catalog import Catalog
from api.desk import Desk
from api.errors import ApiError
from api.schemas import JobView, SubmitJob
from api.submission import Defaults
from core.access import DEFAULT_TENANT, Caller, KeyLimits, Scope
from core.bells import Bells
from core.commands import Cancel, Command, Forget, Requeue
from core.errors import OverLimit, StoreError
from core.events import Priority
from core.ids import RANDOM_BITS, job_id
from core.job import CommandRefused
from core.keys import shard_for
from core.roster import Roster
from core.store import EventStore
from tests.given import CHAT
from tests.simulation.network import Network, Process
from tests.simulation.server import clock_ms
from tests.simulation.witness import Broken
from tests.simulation.workers import WatchedStore


class _SeededDesk(Desk):
    """The API's desk, with ids from the seed."""

    def __init__(self, store: EventStore, bells: Bells, random: Random) -> None:
        defaults = Defaults(
            attempts_max=3,
            timeout_ms=2_000,
            wait_max_seconds=280,
            streams_max=1_000,
            stall_seconds=30,
        )
        super().__init__(store, bells, defaults, lambda: True)
        self.catalog = Catalog(Roster(store), asyncio.get_running_loop().time)
        self._random = random

    def _new_id(self, key: str | None) -> str:
        shards = len(self.store.shards)
        shard = self._random.randrange(shards) if key is None else shard_for(key, shards)
        now_ms = clock_ms(asyncio.get_running_loop().time())
        return job_id(now_ms, self._random.getrandbits(RANDOM_BITS), shard)


def _holder_of(name: str, random: Random) -> Caller:
    """Somebody with an API key of his own, who comes up against each of its limits now and then."""
    limits = KeyLimits(
        requests_per_minute=random.choice((4, 1_000)),
        tokens_per_minute=random.choice((1, 1_000)),
        jobs_in_flight=random.choice((2, 1_000)),
    )
    everything = frozenset(Scope)
    return Caller(tenant=DEFAULT_TENANT, sees=None, scopes=everything, key=name, limits=limits)


class Acquired:
    """What all clients have been told: jobs that were accepted, and how far each was seen to be."""

    def __init__(self) -> None:
        self.accepted: list[tuple[str, str]] = []  # Submission and job.
        self.jobs: list[str] = []
        self.versions: dict[str, int] = {}
        self.variants: dict[str, set[str]] = {}  # Requests that were sent under a key.


class Client:
    """One who calls the API, and believes what it is told."""

    def __init__(
        self,
        network: Network,
        process: Process,
        store: WatchedStore,
        random: Random,
        told: Acquired,
    ) -> None:
        self.is_calm = False
        self._network, self._process = network, process
        self._store, self._random, self._told = store, random, told
        self._bells = Bells(store.client)
        self._desk = _SeededDesk(store, self._bells, random).of(_holder_of(process.name, random))
        self._submissions = 0

    async def run(self) -> None:
        try:
            self._process.spawn(self._bells.run())
            while not self.is_calm:
                await asyncio.sleep(self._random.expovariate(5.0))
                await self._act()
        except Exception as error:
            self._network.break_off(error)
            raise
        self._process.end()

    async def _act(self) -> None:
        some = (self._cancel, self._requeue, self._wait)
        acts = (*(self._submit, self._submit) * 3, *some * 3, self._forget)
        act = self._random.choice(acts) if self._told.jobs else self._submit
        name = act.__name__.strip("_")
        try:
            what = await act()
        except (StoreError, OverLimit, CommandRefused) as error:
            what = type(error).__name__
        except ApiError as error:
            what = error.code
        self._network.say(self._process.name, f"{name}: {what}")

    async def _submit(self) -> str:
        self._submissions += 1
        random, key = self._random, None
        submission = f"{self._process.name}.{self._submissions}"
        variant = ""
        if random.random() < 0.4:
            key, variant = f"key-{random.randrange(3)}", random.choice(("a", "a", "a", "b"))
            submission = key
            self._told.variants.setdefault(key, set()).add(variant)
        asked = self._asked({"submission": submission, "variant": variant}, key is not None)
        try:
            view, is_new = await self._desk.submit(asked, key)
        except ApiError as error:
            is_known = key is not None and len(self._told.variants[key]) > 1
            if error.code == "idempotency_key_reused" and not is_known:
                raise Broken(f"{key} was called reused, and was used for one request") from error
            raise
        self._learn(view, 0)
        self._told.accepted.append((submission, view.id))
        self._told.jobs.append(view.id)
        return "accepted" if is_new else "known"

    def _asked(self, metadata: dict[str, str], is_keyed: bool) -> SubmitJob:
        """A request; the one under a key is always the same, but for its metadata."""
        if is_keyed:
            return SubmitJob(model="echo", request=CHAT, metadata=metadata)
        random = self._random
        return SubmitJob(
            model="echo",
            request=CHAT,
            metadata=metadata,
            queue=random.choice(("default", "default", "batch")),
            priority=random.choice(tuple(Priority)),
            delay_seconds=random.choice((0, 0, 0, 0.1, 1.5)),
            deadline_seconds=random.choice((None, None, None, 0.3, 3.0)),
            timeout_seconds=random.choice((0.5, 2.0)),
            max_attempts=random.choice((1, 2, 3)),
        )

    async def _cancel(self) -> str:
        return await self._command(Cancel(by=self._process.name))

    async def _requeue(self) -> str:
        return await self._command(Requeue(by=self._process.name))

    async def _forget(self) -> str:
        return await self._command(Forget(by=self._process.name))

    async def _command(self, command: Command) -> str:
        job = self._any_job()
        recorded = await self._store.execute(job, command)
        known = self._told.versions[job] = max(self._told.versions[job], recorded.job.version)
        self._learn(await self._desk.view(job), known)
        return "done"

    async def _wait(self) -> str:
        """A long poll answers with the ending, or not before its time."""
        loop, job = asyncio.get_running_loop(), self._any_job()
        seconds, known = self._random.choice((0.0, 0.5, 3.0)), self._told.versions[job]
        until = loop.time() + seconds
        view = await self._desk.wait(job, seconds)
        self._learn(view, known)
        if view.finished_at is None and loop.time() < until - 1e-6:
            raise Broken(f"a wait for {job} came back before its time: {view}")
        return view.status

    def _learn(self, view: JobView, known: int) -> None:
        """Nobody sees a job older than it was known to be when he asked. Raises Broken."""
        if view.version < known:
            raise Broken(f"{self._process.name} saw a past of {view.id}: {view}, not {known}")
        self._told.versions[view.id] = max(self._told.versions.get(view.id, 0), view.version)

    def _any_job(self) -> str:
        jobs: Sequence[str] = self._told.jobs
        return self._random.choice(jobs)
