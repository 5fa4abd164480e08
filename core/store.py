"""The event store: the only way to change a job, and the ways to read one.

    head = await store.load(job_id)
    await store.append(job_id, head.job, decide(head.job, command))

`execute` is those two lines, again from the newer state whenever somebody else was first.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from msgspec import Struct
from redis.asyncio import Redis

from core import functions
from core.access import KeyLimits
from core.appender import Appender, Record, rewriting
from core.archive import Archive
from core.batching import Batcher
from core.change import Change, OnWritten
from core.commands import Command
from core.durability import Barrier, NoBarrier, Written
from core.effects import IN_A_LANE
from core.errors import (
    Conflict,
    DuplicateKey,
    StoreError,
    UnknownJob,
)
from core.events import AnyEvent, JobEvent, Submitted
from core.head import Head, head_of, position_of
from core.ids import shard_of
from core.job import decide, evolve, fold
from core.keys import ShardKeys
from core.log import LogEntry, entry_of, submitted_in
from core.rates import FREE, Levels
from core.records import Bounds, lane_key, limit, transition
from core.redaction import is_gone
from core.redis import answering
from core.replies import levels_in, log_ids_in, raise_if_over, taken_in
from core.states import Ended, Job, has_ended

_CONFLICTS_MAX: Final = 100
_LOOK_PATIENCE_SECONDS: Final = 2.0
UNLIMITED: Final = KeyLimits()


class IdempotencyKey(Struct, frozen=True):
    """A client's name for a submission: under it, the same request is one job."""

    tenant: str
    key: str
    fingerprint: str  # Of the request; another one under the same key is an error.


class Recorded(Struct, frozen=True):
    """What an append led to."""

    job: Job
    log_ids: tuple[str, ...]  # Of the events that it wrote; none if nothing was to do.
    levels: Levels = FREE  # What is left to the API key, after a submission.


class Claim(Struct, frozen=True):
    """The proof that a lane entry is the caller's, checked by the append: see `core/lua/append.lua`."""

    consumer: str
    entry: str


class Fence(Struct, frozen=True):
    """The proof that a claim is the caller's own: its number, and who was given it."""

    claim: int
    worker: str


class View(Struct, frozen=True):
    """A job with its first and its last event; an event that was trimmed is None."""

    head: Head
    submitted: Submitted | None
    last: AnyEvent | None  # Or the one that ended it, if it was forgotten since.

    @property
    def is_forgotten(self) -> bool:
        """Say whether its request and result are gone, or are just being taken out."""
        job = self.head.job
        is_stated = isinstance(job, Ended) and job.forgotten
        return is_stated or (self.submitted is not None and is_gone(self.submitted.request))


class EventStore:
    """Jobs in Redis. Safe for any number of tasks of one event loop."""

    def __init__(
        self,
        client: Redis,
        shards: int,
        bounds: Bounds,
        barrier: Barrier | None = None,
        archive: Archive | None = None,
    ) -> None:
        """`archive` has what was trimmed from the log; None: whoever needs that is told so."""
        self.client = client
        self.archive = archive
        self._barrier = barrier or NoBarrier()
        self.shards = tuple(ShardKeys(shard) for shard in range(shards))
        self.bounds = bounds
        self.on_written: OnWritten | None = (
            None  # Hears of what was written here; it must not raise.
        )
        self._appenders = tuple(
            Appender(client, "append", keys, bounds.patience_seconds) for keys in self.shards
        )
        self._submitters = tuple(
            Appender(client, "submit", keys, bounds.patience_seconds, bounds.watermark_percent)
            for keys in self.shards
        )
        self._looks: Batcher[tuple[Any, ...], list[Any]] = Batcher(
            partial(functions.pipeline, client), lambda _: 0, _LOOK_PATIENCE_SECONDS
        )

    def keys_of(self, job_id: str) -> ShardKeys:
        """The keys of a job's shard. Raises UnknownJob if the id names a shard that there is not."""
        shard = shard_of(job_id)
        if shard >= len(self.shards):
            raise UnknownJob(job_id)
        return self.shards[shard]

    def newest_written(self, shard: int) -> str:
        """The last log entry of a shard that this process was told to be written; `0-0` if none was."""
        appenders = (self._appenders[shard], self._submitters[shard])
        return max((one.newest_written for one in appenders), key=position_of)

    async def submit(
        self,
        job_id: str,
        submitted: Submitted,
        idempotency: IdempotencyKey | None = None,
        limits: KeyLimits = UNLIMITED,
    ) -> Recorded:
        """Write a new job's first event, and wait until it is as durable as it has to be.

        `limits` are those of the API key that it names. What is refused takes nothing of them.

        Raises QueueFull, KeyBusy, RateLimited, StoreFull, DuplicateKey (that job is durable too),
        Conflict (the id is taken), StoreUnavailable, NotDurable.
        """
        keys = self.keys_of(job_id)
        job = evolve(None, submitted)
        shards = len(self.shards)
        record = transition(keys, job_id, None, (submitted,), job, self.bounds.retention_ms)
        limit(record, keys, job, limits, self.bounds, shards)
        if idempotency is not None:
            record.idempotency = (
                keys.idempotency(idempotency.tenant, idempotency.key),
                f"{job_id} {idempotency.fingerprint}",
                self.bounds.retention_ms,
            )
        reply = await self._submitters[keys.shard].send(record)
        left = levels_in(record, limits, reply, shards)
        try:
            raise_if_over(record, job, reply, left, shards)
            recorded = Recorded(job, log_ids_in(job_id, reply), left)
        except DuplicateKey as duplicate:  # Perhaps of a first try that was not confirmed.
            duplicate.left = left
            await self._confirm(duplicate.job_id, 1, None)
            raise
        if self.on_written is not None:
            self.on_written(Change(job_id, None, (submitted,), job, recorded.log_ids))
        await self._confirm(job_id, 1, recorded.log_ids[0])
        return recorded

    async def submitted_under(
        self, shard: int, idempotency: IdempotencyKey
    ) -> tuple[str, str] | None:
        """The job that a key has on a shard, and the fingerprint of its request. Raises StoreUnavailable."""
        key = self.shards[shard].idempotency(idempotency.tenant, idempotency.key)
        async with answering():
            taken: bytes | None = await self.client.execute_command("GET", key)
        return taken_in(taken) if taken is not None else None

    async def append(
        self,
        job_id: str,
        before: Job,
        events: Sequence[JobEvent],
        proof: Claim | Fence | None = None,
    ) -> Recorded:
        """Write what comes after `before`, if that is still the job's state.

        An ending is waited for until it is as durable as it has to be: NotDurable, and it stands.
        Raises Conflict with the newer state; NotOwner if a proof is given and does not hold: the lane
        entry is not pending for that consumer, or the claim is another worker's; FromTheFuture if a
        newer release wrote the head; StoreUnavailable.
        """
        after = fold(events, before)
        if not events or after is None:
            return Recorded(before, ())
        keys = self.keys_of(job_id)
        record = transition(keys, job_id, before, events, after, self.bounds.retention_ms)
        match proof:
            case Claim(consumer, entry) if isinstance(before, IN_A_LANE):
                record.owner, record.entry = consumer, entry
                record.lane = lane_key(keys, before)
            case Fence(claim, worker):
                record.fence = (claim, worker)
        recorded = Recorded(after, await self.write(keys.shard, record))
        if self.on_written is not None:
            self.on_written(Change(job_id, before, events, after, recorded.log_ids))
        if has_ended(after) or has_ended(before):  # The end of a life, or the beginning of one.
            await self._confirm(job_id, after.version, recorded.log_ids[-1])
        return recorded

    async def execute(
        self,
        job_id: str,
        command: Command,
        known: Job | None = None,
        proof: Claim | Fence | None = None,
    ) -> Recorded:
        """Decide and append, again from the newer state as long as others are first.

        Raises UnknownJob, CommandRefused, and what `append` raises but Conflict.
        """
        job = known
        for _ in range(_CONFLICTS_MAX):
            if job is None:
                job = (await self.require(job_id)).job
            try:
                return await self.append(job_id, job, decide(job, command), proof)
            except Conflict as conflict:
                job = conflict.newer
        raise StoreError(f"job {job_id} changed {_CONFLICTS_MAX} times while it was being written")

    async def load(self, job_id: str) -> Head | None:
        """A job's head; None if there is no such job."""
        [head] = await self.load_many([job_id])
        return head

    async def require(self, job_id: str) -> Head:
        """A job's head. Raises UnknownJob."""
        head = await self.load(job_id)
        if head is None:
            raise UnknownJob(job_id)
        return head

    async def load_many(self, job_ids: Sequence[str]) -> list[Head | None]:
        """Many heads, in one round trip for each shard."""
        heads: dict[str, Head | None] = {}
        for keys in self.shards:
            ids = [job_id for job_id in job_ids if self.keys_of(job_id) is keys]
            if ids:
                asked = [keys.head(job_id) for job_id in ids]
                replies = await functions.call(self.client, "heads", asked, {})
                heads.update(zip(ids, map(head_of, replies), strict=True))
        return [heads[job_id] for job_id in job_ids]

    async def view(self, job_id: str) -> View | None:
        """A job as a client sees it, in one round trip."""
        keys = self.keys_of(job_id)
        reply = await functions.call(self.client, "view", [keys.log, keys.head(job_id)], {})
        return _view_in(reply)

    async def look(self, job_id: str) -> View | None:
        """As `view`, in one round trip with whoever else looks at that moment.

        Asked again for some seconds while Redis does not answer.
        """
        keys = self.keys_of(job_id)
        return _view_in(await self._looks.send(_view_command(keys, job_id)))

    async def history(self, job_id: str) -> list[LogEntry]:
        """All of a job's log entries, oldest first; empty if there is no such job."""
        keys = self.keys_of(job_id)
        [entries] = await functions.call(self.client, "history", [keys.log, keys.head(job_id)], {})
        return [entry_of(raw) for raw in entries]

    async def feed(self, shard: int, after: str, count: int = 1_000) -> list[LogEntry]:
        """Up to `count` log entries of a shard that come after position `after` (`0-0`: from the start)."""
        async with answering():
            entries = await self.client.execute_command(
                "XRANGE", self.shards[shard].log, f"({after}", "+", "COUNT", count
            )
        return [entry_of(raw) for raw in entries]

    async def write(self, shard: int, record: Record) -> tuple[str, ...]:
        """Send a record that is no submission: the ids of its log entries.

        Raises Conflict without the newer state, and what `append` raises.
        """
        reply = await self._appenders[shard].send(record)
        if reply[:2] == [b"refused", b"older_schema"]:
            reply = await self._appenders[shard].send(rewriting(record))
        return log_ids_in(record.subject, reply)

    async def _confirm(self, job_id: str, version: int, log_id: str | None) -> None:
        keys = self.keys_of(job_id)
        await self._barrier.confirm(Written(keys.shard, keys.head(job_id), version, log_id))


def _view_command(keys: ShardKeys, job_id: str) -> tuple[Any, ...]:
    return functions.command("view", [keys.log, keys.head(job_id)], {})


def _view_in(reply: Sequence[Any]) -> View | None:
    """The reply of the function `view`. Raises FromTheFuture."""
    flat, first, last = reply
    head = head_of(flat)
    if head is None:
        return None
    return View(head, submitted_in(first), entry_of(last).event if last else None)
