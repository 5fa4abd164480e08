"""The verdict: what the log says, held against what clients were promised and what readers saw."""

import json
import traceback
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from msgspec import Struct

from core import events
from core.events import AttemptLost, JobEvent, Requeued
from core.job import fold
from core.log import LogEntry, job_events, tag_of
from core.output import read_output
from core.states import Running
from core.store import EventStore
from tests.chaos.faults import Injected, Kind
from tests.chaos.load import Load
from tests.chaos.readers import ENDINGS, Reading, SeenEvent, SeenOutput
from tests.chaos.spy import Spy, Write
from tests.store.audit import audit, whole_log

Logs = dict[str, list[LogEntry]]
_GAP: Final = "\0"
_CHUNKS_MAX: Final = 10_000
_OF_A_WORKER: Final = frozenset({Kind.WORKER_KILLED, Kind.WORKER_FROZEN})


class Figures(Struct, frozen=True, kw_only=True):
    """What the log adds up to."""

    log_entries: int
    jobs: int
    endings: dict[str, int]
    jobs_accepted: int
    jobs_lost: int
    lives_without_an_ending: int
    lives_ended_twice: int
    lives_requeued: int
    attempts_lost: dict[str, int]  # By why.
    attempts_failed: int
    output_chunks: int
    output_writes_checked: int  # That the claim was the current one at that moment.
    readers: int
    reconnections: int
    recovered_ms: list[int]  # From the kill or freeze of a worker to a lost job's next claim.


async def jobs_of(store: EventStore) -> Logs:
    """Every job's log entries, oldest first."""
    logs: Logs = defaultdict(list)
    for keys in store.shards:
        for entry in await whole_log(store, keys.shard):
            if isinstance(entry.event, JobEvent):
                logs[entry.subject].append(entry)
    return dict(logs)


async def judge(
    store: EventStore, load: Load, spy: Spy, injected: list[Injected]
) -> tuple[Figures, list[str]]:
    """The figures, and all that is wrong."""
    wrong: list[str] = []
    logs = await jobs_of(store)
    try:
        await audit(store)
    except AssertionError:
        wrong.append(f"the store is not what its log says:\n{traceback.format_exc()}")
    wrong += broken_promises(logs, load.accepted, load.keys)
    wrong += broken_fences(logs, spy.writes)
    for reading in load.readings:
        wrong += misread(logs.get(reading.job_id, []), reading)
    chunks = 0
    for job_id, log in logs.items():
        written = await read_output(store, job_id, count=_CHUNKS_MAX)
        chunks += len(written)
        if strays := {chunk.claim for chunk in written} - _claims(log):
            wrong.append(f"job {job_id} has output of claims that it never had: {strays}")
    return figures_of(logs, load, spy, injected, chunks), wrong


def figures_of(logs: Logs, load: Load, spy: Spy, injected: list[Injected], chunks: int) -> Figures:
    """What the logs add up to."""
    everything = [entry.event for log in logs.values() for entry in log]
    endings_of_lives = [_endings(life) for log in logs.values() for life in lives_of(log)]
    attempts_lost: dict[str, int] = defaultdict(int)
    endings: dict[str, int] = defaultdict(int)
    for event in everything:
        if isinstance(event, AttemptLost):
            attempts_lost[str(event.why)] += 1
        if tag_of(event) in ENDINGS:
            endings[tag_of(event)] += 1
    return Figures(
        log_entries=len(everything),
        jobs=len(logs),
        endings=dict(endings),
        jobs_accepted=len(load.accepted),
        jobs_lost=len(load.accepted - logs.keys()),
        lives_without_an_ending=sum(count == 0 for count in endings_of_lives),
        lives_ended_twice=sum(count > 1 for count in endings_of_lives),
        lives_requeued=sum(isinstance(event, Requeued) for event in everything),
        attempts_lost=dict(attempts_lost),
        attempts_failed=sum(isinstance(event, events.AttemptFailed) for event in everything),
        output_chunks=chunks,
        output_writes_checked=len(spy.writes),
        readers=len(load.readings),
        reconnections=sum(reading.resumed for reading in load.readings),
        recovered_ms=sorted(recoveries(logs, injected)),
    )


def broken_promises(logs: Logs, accepted: set[str], keys: Mapping[str, set[str]]) -> Iterator[str]:
    """Jobs that were accepted and are gone, keys with two jobs, lives with no ending or with two."""
    for job_id in sorted(accepted - logs.keys()):
        yield f"job {job_id} was accepted, and is not in the log"
    for key, jobs in keys.items():
        if len(jobs) > 1:
            yield f"the key {key} has {len(jobs)} jobs: {sorted(jobs)}"
    for job_id, log in logs.items():
        for life in lives_of(log):
            if (count := _endings(life)) != 1:
                yield f"job {job_id} has a life with {count} endings"


def lives_of(log: list[LogEntry]) -> list[list[LogEntry]]:
    """A job's log, cut before each requeue."""
    lives: list[list[LogEntry]] = [[]]
    for entry in log:
        if isinstance(entry.event, Requeued):
            lives.append([])
        lives[-1].append(entry)
    return lives


def _claims(log: list[LogEntry]) -> set[int]:
    return {entry.event.claim for entry in log if isinstance(entry.event, events.Claimed)}


def _endings(life: list[LogEntry]) -> int:
    return sum(tag_of(entry.event) in ENDINGS for entry in life)


def recoveries(logs: Logs, injected: list[Injected]) -> Iterator[int]:
    """Milliseconds from each kill or freeze of a worker to the next claim of each job that it lost."""
    for one in injected:
        if one.fault.kind in _OF_A_WORKER and one.at_ms is not None:
            for log in logs.values():
                claimed_ms = _claimed_again(log, one.at_ms, f"-{one.pid}-")
                if claimed_ms is not None:
                    yield claimed_ms - one.at_ms


def _claimed_again(log: list[LogEntry], at_ms: int, of_worker: str) -> int | None:
    """When a job was claimed again that this worker was running at that time and lost; else None."""
    if log[0].at_ms > at_ms or log[-1].at_ms < at_ms:
        return None
    job = fold(job_events(entry for entry in log if entry.at_ms <= at_ms))
    if not isinstance(job, Running) or of_worker not in job.worker:
        return None
    for before, after in pairwise(entry for entry in log if entry.at_ms > at_ms):
        lost = before.event
        if isinstance(lost, AttemptLost) and lost.claim == job.claims:
            return after.at_ms if isinstance(after.event, events.Claimed) else None
    return None


def broken_fences(logs: Logs, writes: set[Write]) -> Iterator[str]:
    """Output that was written for a claim that was not the current one."""
    for write in sorted(writes):
        job = fold(job_events(logs.get(write.job_id, [])[: write.version]))
        if not isinstance(job, Running) or job.claims != write.claim:
            yield (
                f"job {write.job_id}: output of claim {write.claim} was written at version "
                f"{write.version}, when the claim was not the current one"
            )


def misread(log: list[LogEntry], reading: Reading) -> Iterator[str]:
    """What a reader saw that the log does not say, or did not see that it does."""
    if reading.events:
        seen = reading.events
        entries = log[: len(seen)]
        if seen != [SeenEvent(one.version, tag_of(one.event), one.id) for one in entries]:
            yield f"job {reading.job_id}: a reader of /events saw {seen}, and not the log"
    if reading.output and reading.is_whole:
        yield from _misread_output(log, reading.job_id, reading.output)


def _misread_output(log: list[LogEntry], job_id: str, output: list[SeenOutput]) -> Iterator[str]:
    """The rules of a reader: in order, each once, told of every gap, and in the end the whole text."""
    claim = sequence = 0
    is_lost = is_gap = False  # What was said since the last chunk.
    text = ""
    for seen in output:
        if seen.name == "attempt_lost":
            is_lost, is_gap, text = True, False, ""
        elif seen.name == "resync":
            is_gap, text = True, text + _GAP
        elif seen.name == "chunk":
            name = f"chunk {seen.claim}-{seen.sequence}"
            is_same = seen.claim == claim
            if (seen.claim, seen.sequence) <= (claim, sequence) or (is_same and is_lost):
                yield f"job {job_id}: {name} came late, or again"
            if claim and not is_same and not is_lost:
                yield f"job {job_id}: nobody said that claim {claim} was lost"
            if seen.sequence != (sequence + 1 if is_same else 1) and not is_gap:
                yield f"job {job_id}: nothing was said of a gap before {name}"
            claim, sequence, is_lost, is_gap = seen.claim, seen.sequence, False, False
            text += seen.text
    results = {
        one.event.claim: json.loads(bytes(one.event.result))["choices"][0]["message"]["content"]
        for one in log
        if isinstance(one.event, events.Completed)
    }
    if output[-1].name == "completed" and _GAP not in text and text not in results.values():
        yield f"job {job_id}: a reader of /output was told {text!r}; the result is {results}"
