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
from core.head import read_fields
from core.store import EventStore
from core.trouble import Trouble

log = logging.getLogger(__name__)


class Heartbeat(Struct, frozen=True, kw_only=True):
    """What a worker says of itself every few seconds; gone once it has been silent for a lease."""

    running: int
    models: tuple[str, ...]


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


class Roster:
    """Reads and writes the workers of a store."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._keys = store.shards[0]
        self._newer = Trouble(log, "workers of a newer release are passed over")

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
        """Every worker there is, or was within the retention time. Raises StoreUnavailable."""
        rows = await functions.call(
            self._store.client, "roster", [self._keys.subjects], {"prefix": self._keys.prefix}
        )
        members, newer = [], []
        for row in rows:
            try:
                members.append(_member(*row))
            except FromTheFuture:
                newer.append(row[0].decode())
        if newer:
            self._newer.is_there(", ".join(newer))
        return members


def _member(name: bytes, flat: list[bytes], beat: bytes | None) -> Member:
    worker, log_ids, _ = read_fields(flat, Worker)
    heartbeat = msgspec.json.decode(beat, type=Heartbeat) if beat else None
    started_at_ms = int(log_ids[0].partition("-")[0])
    return Member(name.decode(), worker, started_at_ms, heartbeat)
