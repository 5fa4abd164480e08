"""The workers: their facts on the log, and their heartbeats beside it."""

import logging

import msgspec
from msgspec import Struct

from core import functions
from core.appender import Record, new_record
from core.errors import FromTheFuture
from core.events import WorkerEvent, WorkerStarted
from core.facts import write_fact
from core.fleet import Worker, WorkerStatus, check, evolve_worker, worker_subject
from core.head import milliseconds_of, read_fields
from core.store import EventStore
from core.trouble import Trouble

log = logging.getLogger(__name__)


class GpuMemory(Struct, frozen=True):
    """How full a device is: its own figure, whoever uses it."""

    index: int
    used_bytes: int
    total_bytes: int


class Heartbeat(Struct, frozen=True, kw_only=True):
    """What a worker says of itself every few seconds; gone once it has been silent for a lease."""

    running: int
    models: tuple[str, ...]
    gpus: tuple[GpuMemory, ...] = ()


class Member(Struct, frozen=True):
    """A worker as it is now: its facts, and its last heartbeat, if it is alive."""

    name: str
    worker: Worker
    started_at_ms: int
    heartbeat: Heartbeat | None

    @property
    def models(self) -> frozenset[str]:
        """The models that it serves, or has served: its server may be away for a moment."""
        return frozenset(self.worker.models).union(self.heartbeat.models if self.heartbeat else ())


class Stranger(Struct, frozen=True):
    """A worker whose facts a newer release wrote, so that they cannot be read; its heartbeat can be."""

    name: str
    heartbeat: Heartbeat | None

    @property
    def models(self) -> frozenset[str]:
        """The models that it serves."""
        return frozenset(self.heartbeat.models if self.heartbeat else ())


class Crew(Struct, frozen=True):
    """Every worker there is, or was within the retention time."""

    members: tuple[Member, ...] = ()
    strangers: tuple[Stranger, ...] = ()

    @property
    def everybody(self) -> tuple[Member | Stranger, ...]:
        return (*self.members, *self.strangers)

    @property
    def living(self) -> frozenset[str]:
        """The names of those that are alive."""
        return frozenset(one.name for one in self.everybody if one.heartbeat)


class Roster:
    """Reads and writes the workers of a store."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._keys = store.shards[0]
        self._newer = Trouble(log, "workers of a newer release are there, upgrade this one")

    async def record(self, name: str, event: WorkerEvent) -> None:
        """Put a worker's fact on the log. Raises FactRefused if it cannot be, StoreUnavailable."""
        subject = worker_subject(name)

        def next_record(before: Worker | None) -> Record:
            check(before, event)
            after = evolve_worker(before, event)
            record = new_record(self._keys, subject, before, (event,), after)
            record.register = isinstance(event, WorkerStarted)
            if after.has_ended:
                record.expires_ms = self._store.bounds.retention_ms
            record.persist = before is not None and before.has_ended
            return record

        await write_fact(self._store, subject, Worker, next_record)

    async def beat(self, name: str, heartbeat: Heartbeat, expires_ms: int) -> WorkerStatus | None:
        """Say that a worker is alive; what the log says of it, None if nothing. Raises StoreUnavailable."""
        body = msgspec.json.encode(heartbeat)
        names = [self._keys.alive(name), self._keys.head(worker_subject(name))]
        ask = {"expires_ms": expires_ms}
        status = await functions.call(self._store.client, "beat", names, ask, [body])
        return WorkerStatus(status.decode()) if status else None

    async def members(self) -> list[Member]:
        """Every worker whose facts this release can read. Raises StoreUnavailable."""
        return list((await self.crew()).members)

    async def crew(self) -> Crew:
        """Every worker. Raises StoreUnavailable."""
        rows = await functions.call(
            self._store.client, "roster", [self._keys.subjects], {"prefix": self._keys.prefix}
        )
        members: list[Member] = []
        strangers: list[Stranger] = []
        for name, flat, beat in rows:
            heartbeat = _heartbeat(beat)
            try:
                members.append(_member(name.decode(), flat, heartbeat))
            except FromTheFuture:
                strangers.append(Stranger(name.decode(), heartbeat))
        if strangers:
            self._newer.is_there(", ".join(sorted(stranger.name for stranger in strangers)))
        return Crew(tuple(members), tuple(strangers))


def _member(name: str, flat: list[bytes], heartbeat: Heartbeat | None) -> Member:
    worker, log_ids, _ = read_fields(flat, Worker)
    return Member(name, worker, milliseconds_of(log_ids[0]), heartbeat)


def _heartbeat(said: bytes | None) -> Heartbeat | None:
    """What a worker last said; of one that says it in a way that is not ours, that it is alive."""
    if said is None:
        return None
    try:
        return msgspec.json.decode(said, type=Heartbeat)
    except msgspec.ValidationError:
        return Heartbeat(running=0, models=())
