"""Transitions of jobs as records of an append: what it writes besides the events."""

from collections.abc import Sequence

from msgspec import Struct

from core.access import KeyLimits
from core.appender import Record, Take, new_record
from core.effects import IN_A_LANE, Counter, effects
from core.events import JobEvent
from core.fleet import worker_subject
from core.keys import LaneName, ShardKeys, count_field, in_flight_field
from core.rates import TOKENS, buckets_of, share
from core.states import Job, Queued, Running, Scheduled, has_ended


class Bounds(Struct, frozen=True, kw_only=True):
    """What the store takes and keeps."""

    waiting_max: int = 1_000  # Jobs waiting in one queue.
    scheduled_max: int = 10_000  # Jobs scheduled for one queue.
    retention_ms: int = 24 * 3_600_000  # How long an ended job, and an idempotency key, are kept.
    watermark_percent: int = 85  # Of Redis's maxmemory, above which no new jobs are taken.
    patience_seconds: float = 2.0  # How long an append is sent again while Redis does not answer.


def transition(
    keys: ShardKeys,
    job_id: str,
    before: Job | None,
    events: Sequence[JobEvent],
    after: Job,
    retention_ms: int,
) -> Record:
    """The record of `events`, which led from one state of a job to the next, with all their effects."""
    record = new_record(keys, job_id, before, events, after)
    effect = effects(before, events, after)
    for arm in effect.arm:
        record.arm.append({"timer": arm.timer, "delay_ms": arm.delay_ms, "since": arm.since})
    record.disarm += effect.disarm
    record.counts += [(count_field(counter, after.queue), by) for counter, by in effect.counts]
    if after.key is not None:
        if effect.in_flight:
            record.counts.append((in_flight_field(after.key), effect.in_flight))
        if effect.spends:
            record.spend = (keys.buckets(after.key), TOKENS, effect.spends)
    if effect.ended:
        record.expires_ms = retention_ms
    elif before is not None and has_ended(before) and not has_ended(after):
        record.persist = True
    if effect.leave and isinstance(before, IN_A_LANE):
        record.leave = lane_key(keys, before)
        if effect.enter is None:
            record.clear.append("entry")
    if effect.enter is not None:
        name = LaneName(effect.enter, after.queue, after.model)
        record.enter = (keys.ready(name), str(name), name.serves)
    if effect.tell is not None:
        record.ring = worker_subject(effect.tell)
    return record


def limit(
    record: Record,
    keys: ShardKeys,
    job: Job,
    limits: KeyLimits,
    bounds: Bounds,
    shards: int,
) -> None:
    """Hold a submission to what its queue and its API key may have. Each shard has its share of that."""
    if job.key is not None:
        if limits.jobs_in_flight is not None:
            in_flight = (in_flight_field(job.key), share(limits.jobs_in_flight, shards))
            record.limits.append(in_flight)
        if of := buckets_of(limits, shards):
            record.take = Take(keys.buckets(job.key), of, bounds.retention_ms)
    counter, most = (
        (Counter.SCHEDULED, bounds.scheduled_max)
        if isinstance(job, Scheduled)
        else (Counter.WAITING, bounds.waiting_max)
    )
    record.limits.append((count_field(counter, job.queue), share(most, shards)))


def lane_key(keys: ShardKeys, job: Queued | Running) -> str:
    """The lane that a job is in."""
    return keys.ready(LaneName(job.lane, job.queue, job.model))
