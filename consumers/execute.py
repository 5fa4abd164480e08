"""One attempt: claimed, performed, finished. Every way that it can end becomes one command here."""

import asyncio
import logging
import random
import sys
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from msgspec import Raw, Struct

from consumers.claims import Delivery
from consumers.leases import Interruption, Lease, Leases
from consumers.upstream.base import Answer, Call, Chunk, Upstream, UpstreamError
from consumers.writer import OutputWriter
from core.commands import Claim as ClaimJob
from core.commands import Command, Complete, ConfirmCancel, Expire, Fail, Lose, RecoveryPolicy
from core.errors import Conflict, FromTheFuture, NotOwner, StoreError, UnknownJob
from core.events import ErrorKind, JobError, LostBecause, Submitted, Timings
from core.head import milliseconds_of
from core.job import CommandRefused, decide
from core.output import Emitter
from core.states import Queued, Running
from core.store import Claim, EventStore, Fence, Recorded
from core.tracing import JOB_TRACEPARENT

if TYPE_CHECKING:
    from consumers.spans import WorkerSpans

log = logging.getLogger(__name__)

Waited = Callable[
    [str, int], None
]  # Hears of each claim: its queue, and how many milliseconds it took.


class LossLimits(Struct, frozen=True, kw_only=True):
    """What a worker allows of a job whose worker was lost."""

    deliveries_max: int
    recovery_policy: RecoveryPolicy


class Executor:
    """Runs deliveries to their end."""

    def __init__(
        self,
        store: EventStore,
        emitter: Emitter,
        upstream: Upstream,
        leases: Leases,
        consumer: str,
        limits: LossLimits,
        monotonic: Callable[[], float],
        on_upstream_error: Callable[[UpstreamError], None],
        spans: "WorkerSpans | None" = None,
        waited: Waited | None = None,
    ) -> None:
        self._store = store
        self._emitter = emitter
        self._upstream = upstream
        self._leases = leases
        self._consumer = consumer
        self._limits = limits
        self._monotonic = monotonic
        self._on_upstream_error = on_upstream_error
        self._spans = spans
        self._waited = waited

    async def run(self, delivery: Delivery) -> None:
        """Take a delivery from the lane to an outcome on the log.

        When Redis stays away for too long the entry is left pending: it is recovered, by this worker
        or another one, and no outcome is written twice.
        """
        if delivery.submitted is not None:
            JOB_TRACEPARENT.set(delivery.submitted.traceparent)
        try:
            lease = await self._claim(delivery)
            if lease is None:
                return
            try:
                command = await self._perform(lease, delivery.submitted)
                if command is not None:
                    await self._finish(lease, command)
            finally:
                self._leases.remove(lease)
                if lease.spans is not None:
                    lease.spans.end(sys.exception())
        except FromTheFuture as error:
            log.warning("job %s left to a newer release's workers: %s", delivery.job_id, error)
            await self._hand_over(delivery)
        except StoreError as error:
            log.warning("job %s left to recovery: %s", delivery.job_id, error)

    async def _hand_over(self, delivery: Delivery) -> None:
        """Not keep a job for a lease of which nothing can come any more."""
        job = delivery.head.job
        if not isinstance(job, Queued | Running):
            return
        try:
            await self._leases.release(delivery.job_id, job, delivery.entry)
        except StoreError as error:
            log.warning("job %s left to recovery: %s", delivery.job_id, error)

    async def _claim(self, delivery: Delivery) -> Lease | None:
        """Append `claimed`; None if the job is no longer to be had, or was due long ago."""
        claim = Claim(self._consumer, delivery.entry)
        job = delivery.head.job
        command: Command = Expire() if delivery.is_overdue else ClaimJob(self._consumer)
        rings = self._leases.rings
        try:
            recorded = await self._store.append(delivery.job_id, job, decide(job, command), claim)
        except (Conflict, CommandRefused, NotOwner) as error:
            log.info("job %s not claimed: %s", delivery.job_id, error)
            return None
        if not isinstance(recorded.job, Running):
            return None
        lease = Lease(delivery.job_id, recorded.job, claim)
        waited_ms = _waited_ms(delivery, recorded)
        if self._waited is not None:
            self._waited(recorded.job.queue, waited_ms)
        if self._spans is not None:
            lease.spans = self._spans.begin(
                delivery.job_id, delivery.submitted, recorded.job, waited_ms
            )
        self._leases.add(lease)
        if self._leases.rings != rings:
            self._leases.look_again()  # A cancel may have come before there was a lease to interrupt.
        return lease

    async def _perform(self, lease: Lease, submitted: Submitted | None) -> Command | None:
        """Call the upstream; the command that says how it went, None if there is nothing to say.

        Raises FromTheFuture if nothing that is said could be written any more.
        """
        job = lease.job
        if submitted is None:
            error = JobError(ErrorKind.BAD_REQUEST, "the job's request is no longer in the log")
            return _told(lease, Fail(job.claims, error, jitter=0.0))
        traceparent = submitted.traceparent if lease.spans is None else lease.spans.call()
        call = Call(job.kind, job.model, submitted.request, traceparent)
        output = OutputWriter(self._emitter, lease.job_id, job.claims, self._consumer)
        command = _told(lease, await self._attempt(lease, call, output))
        if command is not None:
            await output.finish()  # A reader has all of it before the job ends.
        return command

    async def _attempt(self, lease: Lease, call: Call, output: OutputWriter) -> Command | None:
        timeout_seconds = lease.job.timeout_ms / 1_000
        try:
            async with asyncio.timeout(timeout_seconds) as scope:
                lease.enter(scope)
                return await self._stream(lease, call, output)
        except UpstreamError as failure:
            self._on_upstream_error(failure)
            return _failed(lease.job, failure.error)
        except TimeoutError:
            return self._stopped(lease, timeout_seconds)
        except Exception as error:
            # One request that an adapter cannot cope with must not end the worker, and with it
            # every other job that it runs.
            log.exception("job %s: the upstream adapter failed", lease.job_id)
            message = f"the worker could not handle the request: {error!r}"
            return _failed(lease.job, JobError(ErrorKind.SERVER_ERROR, message))
        finally:
            lease.leave()

    async def _stream(self, lease: Lease, call: Call, output: OutputWriter) -> Complete:
        started = self._monotonic()
        first_token_ms: int | None = None
        async with aclosing(self._upstream.stream(call)) as stream:
            async for item in stream:
                match item:
                    case Chunk(data):
                        if first_token_ms is None:
                            first_token_ms = _elapsed_ms(started, self._monotonic())
                        output.write(data)
                        if not output.is_current:
                            lease.interrupt(Interruption.LOST)
                    case Answer(body, usage):
                        ran_ms = _elapsed_ms(started, self._monotonic())
                        timings = Timings(ran_ms, first_token_ms)
                        return Complete(lease.job.claims, Raw(body), timings, usage, output.chunks)
        raise UpstreamError(ErrorKind.LOST_STREAM, "the upstream's stream ended without an answer")

    def _stopped(self, lease: Lease, timeout_seconds: float) -> Command | None:
        match lease.interruption:
            case None:
                message = f"the attempt took longer than its {timeout_seconds:g} s"
                return _failed(lease.job, JobError(ErrorKind.TIMEOUT, message))
            case Interruption.CANCELLED:
                return ConfirmCancel(lease.job.claims)
            case Interruption.DRAINED:
                return Lose(
                    lease.job.claims,
                    LostBecause.DRAINED,
                    self._limits.deliveries_max,
                    self._limits.recovery_policy,
                )
            case Interruption.NEWER:
                raise FromTheFuture(
                    "a newer release has written it while it ran here: upgrade this one"
                )
            case Interruption.LOST:
                log.warning("job %s was taken over", lease.job_id)
                return None

    async def _finish(self, lease: Lease, command: Command) -> None:
        """Append the outcome, unless the claim is another worker's by now.

        A cancel that comes in between changes the version and not the claim, so the outcome counts.
        """
        fence = Fence(lease.job.claims, self._consumer)
        try:
            await self._store.execute(lease.job_id, command, lease.job, fence)
        except (CommandRefused, NotOwner, UnknownJob) as error:
            log.warning("job %s: outcome not written: %s", lease.job_id, error)


def _told(lease: Lease, command: Command | None) -> Command | None:
    """What the attempt has come to, with its spans told of it."""
    if lease.spans is not None:
        lease.spans.called(command)
    return command


def _waited_ms(delivery: Delivery, claimed: Recorded) -> int:
    """From when the job could be claimed to its claim, by Redis's clock."""
    waiting_since_ms = delivery.head.time_ms(delivery.head.job.version)
    return max(0, milliseconds_of(claimed.log_ids[0]) - waiting_since_ms)


def _failed(job: Running, error: JobError) -> Fail:
    return Fail(job.claims, error, jitter=random.random())  # noqa: S311 - it only spreads retries.


def _elapsed_ms(start: float, end: float) -> int:
    return round((end - start) * 1_000)
