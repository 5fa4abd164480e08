"""Holds a whole store against its log: heads, lanes, timers, counts, sequence and expiry."""

from collections import Counter, defaultdict
from itertools import groupby
from typing import Any

from core import events
from core.effects import Timer
from core.events import JobEvent
from core.head import Head
from core.job import fold
from core.keys import LaneName, ShardKeys, count_fields, timer_member
from core.log import LogEntry, job_events
from core.states import Queued, Running, Scheduled, has_ended
from core.store import EventStore

GROUP = "workers"
OUTCOMES = (events.AttemptFailed, events.AttemptLost, events.Completed)


async def audit(store: EventStore) -> dict[str, Head]:
    """Assert every invariant of the store; all heads by job."""
    heads: dict[str, Head] = {}
    for keys in store.shards:
        log = await whole_log(store, keys.shard)
        assert [entry.sequence for entry in log] == list(range(1, len(log) + 1))
        _check_operations(log)
        by_job: dict[str, list[LogEntry]] = defaultdict(list)
        for entry in log:
            if isinstance(entry.event, JobEvent):
                by_job[entry.subject].append(entry)
        of_shard = {job: _checked(await store.require(job), job, by_job[job]) for job in by_job}
        await _check_lanes(store, keys, of_shard)
        await _check_timers(store, keys, of_shard)
        await _check_counts(store, keys, of_shard)
        await _check_expiry(store, keys, of_shard)
        heads |= of_shard
    return heads


async def whole_log(store: EventStore, shard: int) -> list[LogEntry]:
    """A shard's log from its start to its end."""
    log: list[LogEntry] = []
    while entries := await store.feed(shard, log[-1].id if log else "0-0"):
        log += entries
    return log


def _check_operations(log: list[LogEntry]) -> None:
    """An append is in the log once, and whole: its events follow each other, and are of one subject."""
    appends = [key for key, _ in groupby(log, lambda entry: (entry.operation, entry.subject))]
    operations = [operation for operation, _ in appends]
    assert len(set(operations)) == len(operations), "an operation was written twice"


def _checked(head: Head, job_id: str, log: list[LogEntry]) -> Head:
    history = job_events(log)
    assert [entry.version for entry in log] == list(range(1, len(log) + 1)), job_id
    assert head.job == fold(history), job_id
    assert head.log_ids == tuple(entry.id for entry in log), job_id
    claims = [event.claim for event in history if isinstance(event, events.Claimed)]
    assert claims == list(range(1, len(claims) + 1)), "a claim number was used again"
    _check_lives(history)
    return head


def _check_lives(history: list[JobEvent]) -> None:
    """At most one ending a life, and only the holder of the claim says how an attempt went."""
    for at in range(1, len(history)):
        before = fold(history[:at])
        assert before is not None
        assert has_ended(before) == isinstance(history[at], events.Requeued | events.Redacted)
        event = history[at]
        if isinstance(event, OUTCOMES):
            assert event.claim == before.claims
        if isinstance(event, events.Failed):
            assert event.deliveries == len(before.lost_workers), "deliveries come from the log"


async def _check_lanes(store: EventStore, keys: ShardKeys, heads: dict[str, Head]) -> None:
    client: Any = store.client  # Its annotations cannot say that replies are bytes.
    waiting: dict[str, tuple[str, str]] = {}
    pending: dict[str, str] = {}
    for name in await client.smembers(keys.lanes):
        lane = keys.ready(LaneName.parse(name.decode()))
        for entry_id, fields in await client.xrange(lane):
            waiting[fields[b"j"].decode()] = (name.decode(), entry_id.decode())
        for row in await client.xpending_range(lane, GROUP, "-", "+", 10_000):
            pending[f"{name.decode()} {row['message_id'].decode()}"] = row["consumer"].decode()
    expected = {
        job: (str(LaneName(head.job.lane, head.job.queue, head.job.model)), head.entry)
        for job, head in heads.items()
        if isinstance(head.job, Queued | Running)
    }
    assert waiting == expected
    in_lanes = {f"{lane} {entry}" for lane, entry in waiting.values()}
    assert pending.keys() <= in_lanes, "a pending entry has no job"
    for job, head in heads.items():
        if isinstance(head.job, Running):
            lane, entry = waiting[job]
            assert pending[f"{lane} {entry}"], "a running job's entry is not pending"


async def _check_timers(store: EventStore, keys: ShardKeys, heads: dict[str, Head]) -> None:
    client: Any = store.client
    armed = {
        member.decode(): int(score)
        for member, score in await client.zrange(keys.timers, 0, -1, withscores=True)
    }
    expected: dict[str, int | None] = {}
    for job, head in heads.items():
        if isinstance(head.job, Scheduled):
            expected[timer_member(job, Timer.DUE)] = head.due_at_ms
        if isinstance(head.job, Scheduled | Queued) and head.job.deadline_ms is not None:
            expected[timer_member(job, Timer.DEADLINE)] = head.deadline_at_ms
            born_ms = head.time_ms(head.job.born)
            assert head.deadline_at_ms == born_ms + head.job.deadline_ms
    assert armed == expected


async def _check_counts(store: EventStore, keys: ShardKeys, heads: dict[str, Head]) -> None:
    client: Any = store.client
    stored = {
        field.decode(): int(count) for field, count in (await client.hgetall(keys.counts)).items()
    }
    expected: Counter[str] = Counter()
    for head in heads.values():
        expected.update(count_fields(head.job))
    assert {field: count for field, count in stored.items() if count} == dict(expected)


async def _check_expiry(store: EventStore, keys: ShardKeys, heads: dict[str, Head]) -> None:
    """An ended job is kept for the retention time, an open one for ever."""
    for job, head in heads.items():
        left_ms = int(await store.client.pttl(keys.head(job)))
        assert (left_ms != -1) == has_ended(head.job), f"{job} expires in {left_ms} ms"
