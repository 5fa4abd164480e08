"""Events as the firehose sends them, made once for all who listen: without bodies, with whose they are."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from litestar.response.sse import ServerSentEventMessage
from msgspec import Struct

from api.errors import error_view, store_failure
from api.schemas import event_view
from core import functions
from core.errors import FromTheFuture
from core.events import Submitted
from core.head import position_of
from core.keys import ShardKeys
from core.log import BODIES, LogEntry, entry_of, tag_of
from core.store import EventStore
from projections.feed import UNREADABLE

KNOWN_JOBS_MAX: Final = 20_000


class Owner(NamedTuple):
    """Whose a job is; nobody knows of one that is over and forgotten."""

    queue: str | None
    tenant: str | None


_NOBODY: Final = Owner(None, None)


class Happening(Struct, frozen=True):
    """An entry of the log, to be sent."""

    shard: int
    entry: str
    position: tuple[int, int]
    sequence: int | None  # None: it says none that can be read.
    message: bytes  # All of a server-sent event but its id.
    type: str = ""
    queue: str | None = None
    tenant: str | None = None
    is_of_a_job: bool = False
    is_newer: bool = False  # A newer release's, and the message an error that says so.
    is_unreadable: bool = False  # By any release.


class Owners:
    """Whose the jobs are that events came of lately."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._known: dict[str, Owner] = {}

    async def of(self, keys: ShardKeys, entries: Iterable[LogEntry]) -> dict[str, Owner]:
        """The owner of each job among the entries; those that are not known are asked for together.

        Raises StoreUnavailable.
        """
        owners: dict[str, Owner] = {}
        unknown = set()
        for entry in entries:
            if ":" in entry.subject:
                continue
            if isinstance(entry.event, Submitted):
                self._keep(entry.subject, Owner(entry.event.queue, entry.event.tenant))
            known = self._known.get(entry.subject)
            if known is None:
                unknown.add(entry.subject)
            else:
                owners[entry.subject] = known
        unknown -= owners.keys()
        if unknown:
            jobs = sorted(unknown)
            asks = [("HMGET", keys.head(job), "queue", "tenant") for job in jobs]
            replies = await functions.pipeline(self._store.client, asks)
            for job, (queue, tenant) in zip(jobs, replies, strict=True):
                if tenant is not None and queue is not None:
                    self._keep(job, Owner(queue.decode(), tenant.decode()))
                owners[job] = self._known.get(job, _NOBODY)
        return owners

    def _keep(self, job_id: str, owner: Owner) -> None:
        self._known[job_id] = owner
        if len(self._known) > KNOWN_JOBS_MAX:
            del self._known[next(iter(self._known))]  # The one that was first asked for.


async def happenings_of(keys: ShardKeys, raws: Sequence[Any], owners: Owners) -> list[Happening]:
    """Raw log entries, to be sent. Raises StoreUnavailable."""
    read = [_read(keys.shard, raw) for raw in raws]
    whose = await owners.of(keys, (one for one in read if isinstance(one, LogEntry)))
    return [
        _happening(keys.shard, one, whose.get(one.subject, _NOBODY))
        if isinstance(one, LogEntry)
        else one
        for one in read
    ]


def _read(shard: int, raw: Any) -> LogEntry | Happening:
    entry, digits = raw[0].decode(), raw[1].get(b"q", b"")
    number = int(digits) if digits.isdigit() else None
    try:
        return entry_of(raw)
    except FromTheFuture as error:
        view = error_view(store_failure(error))
        message = framed("error", msgspec.json.encode(view))
        return Happening(shard, entry, position_of(entry), number, message, is_newer=True)
    except UNREADABLE:
        return Happening(shard, entry, position_of(entry), number, b"", is_unreadable=True)


def _happening(shard: int, entry: LogEntry, owner: Owner) -> Happening:
    kind, _, name = entry.subject.rpartition(":")
    shown = event_view(entry)
    for body in BODIES:
        shown.pop(body, None)
    match kind:
        case "":
            subject = {"job_id": name, "queue": owner.queue, "tenant": owner.tenant}
        case "queue":
            owner = Owner(name, None)
            subject = {"queue": name}
        case _:
            subject = {kind: name}
    tag = tag_of(entry.event)
    return Happening(
        shard=shard,
        entry=entry.id,
        position=position_of(entry.id),
        sequence=entry.sequence,
        message=framed(tag, msgspec.json.encode(shown | subject)),
        type=tag,
        queue=owner.queue,
        tenant=owner.tenant,
        is_of_a_job=not kind,
    )


def framed(event: str, data: bytes) -> bytes:
    """A server-sent event without an id, which is to stand before it."""
    return ServerSentEventMessage(data=data, event=event).encode()
