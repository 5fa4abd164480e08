"""What the handlers call: submitting, waiting, and knowing which models there are."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from copy import copy
from hashlib import blake2b

import msgspec
from msgspec import structs

from api.admission import Drain, refusal
from api.catalog import Catalog
from api.errors import STORE_AWAY, STORE_AWAY_SECONDS, ApiError
from api.looks import Looks
from api.schemas import JobView, SubmitJob, job_view
from api.sse import Streams
from api.submission import Defaults, as_view, check_request, not_durable, reused, submitted_by
from api.tail import Tail
from core.access import ANYBODY, Caller
from core.bells import Bells
from core.commands import Cancel
from core.errors import (
    Conflict,
    DuplicateKey,
    NotDurable,
    OverLimit,
    StoreError,
    StoreNotReady,
    UnknownJob,
)
from core.ids import RANDOM_BITS, is_job_id, job_id, shard_of
from core.job import CommandRefused
from core.keys import shard_for
from core.queues import Queues
from core.rates import FREE
from core.redis import REPLY_TIMEOUT_SECONDS
from core.roster import Roster
from core.states import has_ended, status_of
from core.store import EventStore, IdempotencyKey, View
from core.tail import TailWatch
from core.watcher import Story, Watcher
from projections.archive.finding import find, find_story
from projections.reading.position import Reader
from projections.reading.queues import place_of
from projections.reading.workers import WorkerView

log = logging.getLogger(__name__)


class Desk:
    """The API's one way to the store, for one caller: jobs of other tenants are not there."""

    def __init__(
        self, store: EventStore, bells: Bells, defaults: Defaults, is_ready: Callable[[], bool]
    ) -> None:
        self.store = store
        self.bells = bells
        self.catalog = Catalog(Roster(store))
        self.queues = Queues(store)
        self.tail = TailWatch(store)
        self.reader = Reader(store, bells)
        self.watcher = Watcher(store, REPLY_TIMEOUT_SECONDS)
        self.firehose = Tail(store, bells)
        self.looks = Looks()
        self.streams = Streams(defaults.streams_max, defaults.stall_seconds)
        self.wait_max_seconds = defaults.wait_max_seconds
        self._defaults = defaults
        self._is_ready = is_ready
        self._abandoning: set[asyncio.Task[None]] = set()
        self._drain = Drain(self.reader)
        self.caller = ANYBODY
        self.traceparent: str | None = None
        self.left = FREE  # What the caller's last submission left to it.

    def of(self, caller: Caller, traceparent: str | None = None) -> "Desk":
        """The same desk, as another caller sees it; what it submits is part of that trace."""
        desk = copy(self)
        desk.caller = caller
        desk.traceparent = traceparent
        return desk

    @property
    def by(self) -> str:
        """Who does what comes over HTTP, for the log: the key by its name, which no other key has."""
        return "api" if self.caller.key is None else f"key:{self.caller.name}"

    async def without_others(self, workers: list[WorkerView]) -> list[WorkerView]:
        """Workers without the jobs that are not the caller's to see. Raises StoreUnavailable."""
        if self.caller.sees is None:
            return workers
        ids = [job.id for worker in workers for job in worker.running]
        heads = dict(zip(ids, await self.store.load_many(ids), strict=True))

        def is_seen(job_id: str) -> bool:
            head = heads[job_id]
            return head is not None and self.caller.may_see(head.job.tenant)

        return [
            structs.replace(worker, running=[job for job in worker.running if is_seen(job.id)])
            for worker in workers
        ]

    async def submit(self, asked: SubmitJob, key: str | None) -> tuple[JobView, bool]:
        """The job, and whether it is new: the same request under the same key gives the same job.

        `left` has then what is left to the caller. Raises ApiError (404 for the model, 422 for the
        request or a reused key, 429 for one too many), StoreError.
        """
        check_request(asked.kind, asked.request)
        idempotency = None if key is None else self._idempotency(key, asked)
        try:
            note = await self.catalog.check(asked.model)
        except ApiError:  # Who comes back for an answer gets it, though its model is gone.
            if idempotency is None:
                raise
            known = await self.store.submitted_under(shard_of(self._new_id(key)), idempotency)
            if known is None:
                raise
            return await self._submitted_before(idempotency, *known), False
        submitted = submitted_by(self.caller, asked, self._defaults, self.traceparent)
        while True:
            new_id = self._new_id(key)
            try:
                recorded = await self.store.submit(
                    new_id, submitted, idempotency, self.caller.limits
                )
            except NotDurable as error:  # It is there, so whoever asked has to know its name.
                raise not_durable(new_id, error) from error
            except Conflict:
                continue  # Somebody has that id: one in 2^40 in the same millisecond.
            except OverLimit as over:
                self.left = over.left
                shards = len(self.store.shards)
                raise await refusal(over, self._drain, self.catalog, shards) from over
            except DuplicateKey as duplicate:
                self.left = duplicate.left
                before = self._submitted_before(
                    idempotency, duplicate.job_id, duplicate.fingerprint
                )
                return await before, False
            self.left = recorded.levels
            return job_view(new_id, as_view(submitted, recorded), note), True

    async def _submitted_before(
        self, idempotency: IdempotencyKey | None, job_id: str, fingerprint: str
    ) -> JobView:
        """The job that a key has already. Raises ApiError 422 if that was for another request."""
        if idempotency is None or fingerprint != idempotency.fingerprint:
            raise reused(job_id)
        return await self.view(job_id)

    async def view(self, job_id: str, note: str | None = None) -> JobView:
        """A job as it is now. Raises UnknownJob, StoreUnavailable."""
        return job_view(job_id, await self.recall(job_id), note)

    async def placed(self, job: JobView) -> JobView:
        """A job, if it waits with its place in line, and how long that will take at today's pace.

        Without them as long as the views do not have it in line.
        """
        if job.status != "queued":
            return job
        try:
            shard = shard_of(job.id)
            place = await place_of(self.reader, job.id, shard, job.queue, job.model)
        except StoreError as error:
            log.debug("job %s is shown without its place: %s", job.id, error)
            return job
        if place is None:
            return job
        pace = place.drained_per_second
        eta_seconds = round((place.before + 1) / pace, 1) if pace else None
        return structs.replace(job, position=place.before + 1, eta_seconds=eta_seconds)

    async def glance(self, job_id: str) -> JobView | None:
        """A job with its place in line; None if it cannot be looked at just now."""
        try:
            return await self.placed(await self.view(job_id))
        except (StoreError, UnknownJob):
            return None

    async def require(self, job_id: str) -> View:
        """A job that the store has, with its first and last event.

        Raises UnknownJob, StoreUnavailable; ApiError 409 for one that only the archive has any more.
        """
        view = await self.store.view(job_id) if is_job_id(job_id) else None
        if view is None:
            old = status_of((await self.recall(job_id)).head.job)
            message = (
                f"the job is {old}, and only the archive has it: GET /v1/jobs/{job_id} shows it"
            )
            raise ApiError(409, "job_archived", message, job_id=job_id)
        return self._seen(job_id, view)

    async def recall(self, job_id: str) -> View:
        """A job as `require` gives it, in the store or in its archive.

        Raises UnknownJob, ArchiveError, StoreUnavailable.
        """
        view = await self.store.view(job_id) if is_job_id(job_id) else None
        return self._seen(job_id, view or await find(self.store, job_id))

    async def story(self, job_id: str) -> Story:
        """A job and all of its events, in the store or in its archive. Raises StoreError."""
        head, entries = await self.watcher.story(job_id)
        return (head, entries) if head is not None else await find_story(self.store, job_id)

    def _seen(self, job_id: str, view: View | None) -> View:
        if view is None or not self.caller.may_see(view.head.job.tenant):
            raise UnknownJob(job_id)
        return view

    async def wait(self, job_id: str, seconds: float) -> JobView:
        """A job once it has ended, or as it is after so many seconds. Raises as `view` does."""
        view = await self.recall(job_id)
        if seconds > 0 and not has_ended(view.head.job):
            view = await self.until_ended(job_id, min(seconds, self.wait_max_seconds))
        return job_view(job_id, view)

    async def until_ended(self, job_id: str, seconds: float) -> View:
        """A job that is there, once it has ended, or as it is after so many seconds.

        It outlasts an outage of Redis, or its caller would ask for the work again.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        async with self.bells.hear(job_id, is_for_output=False) as bell:
            while True:
                left = until - loop.time()
                bell.hush()
                try:
                    view = self._seen(job_id, await self.store.look(job_id))
                except STORE_AWAY:
                    if left <= 0 or bell.is_closing:
                        raise
                    await bell.wait(min(left, STORE_AWAY_SECONDS))
                    continue
                if has_ended(view.head.job) or left <= 0 or bell.is_closing:
                    return view
                await bell.wait(left)

    def abandon(self, job_id: str, reason: str = "the caller left") -> None:
        """Cancel, without waiting for it, a job that nobody wants any more."""
        task = asyncio.create_task(self._cancel_abandoned(job_id, reason))
        self._abandoning.add(task)  # Kept, as the loop itself would not.
        task.add_done_callback(self._abandoning.discard)

    async def _cancel_abandoned(self, job_id: str, reason: str) -> None:
        try:
            await self.store.execute(job_id, Cancel(by="caller", reason=reason))
        except (CommandRefused, NotDurable, UnknownJob):
            log.debug("job %s had ended when it was to be cancelled: %s", job_id, reason)
        except StoreError as error:
            log.warning("job %s goes on, though %s: %s", job_id, reason, error)

    async def trouble(self) -> str | None:
        """Nothing, or why a job that is submitted now would not run soon."""
        if not self._is_ready():
            return "still starting"
        if self.tail.trouble is not None:
            return self.tail.trouble
        try:
            crew = await self.catalog.crew()
        except StoreError as error:
            return str(error)
        return None if crew.living else "no worker is alive"

    async def notes(self) -> str | None:
        """Nothing, or what an operator has to know, though jobs are taken."""
        try:
            views = (await self.reader.position()).note
        except StoreNotReady as error:
            views = str(error)
        except StoreError:  # `trouble` says so.
            views = None
        return "; ".join(note for note in (self.tail.loss, views) if note) or None

    def _new_id(self, key: str | None) -> str:
        shards = len(self.store.shards)
        named = f"{self.caller.tenant}:{key}"
        shard = secrets.randbelow(shards) if key is None else shard_for(named, shards)
        return job_id(time.time_ns() // 1_000_000, secrets.randbits(RANDOM_BITS), shard)

    def _idempotency(self, key: str, asked: SubmitJob) -> IdempotencyKey:
        fingerprint = blake2b(msgspec.json.encode(asked), digest_size=16).hexdigest()
        return IdempotencyKey(self.caller.tenant, key, fingerprint)
