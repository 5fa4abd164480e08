"""Looking back: a log read up to a moment, and what it tells of it."""

from collections.abc import AsyncGenerator, Awaitable, Callable

from msgspec import Struct

from core.errors import UnknownJob
from core.ids import is_job_id
from core.states import has_ended
from core.store import EventStore
from projections.building import clock_ms, log_lengths
from projections.past.cluster import Cluster
from projections.past.investigator import Investigator
from projections.past.recorder import Recorder
from projections.past.report import Report
from projections.past.sequence import Past
from projections.past.state import State, state_of
from projections.past.table import Row, row_of
from projections.past.timeline import Teller, Timeline
from projections.past.trace import TraceEvent, Tracer
from projections.past.words import moment
from projections.past.workload import Workload


class LiesAhead(Exception):
    """Nobody knows yet what will be then."""


class Progress(Struct, frozen=True):
    """How many of the log's entries have been read."""

    entries: int
    of: int


Tell = Callable[[Progress], None]
Rest = Callable[[], Awaitable[None]]  # What is awaited after each page, for the sake of others.


def _silent(_: Progress) -> None:
    pass


async def _at_once() -> None:
    pass


async def state_at(
    store: EventStore, at_ms: int, tell: Tell = _silent, rest: Rest = _at_once
) -> tuple[State, list[str]]:
    """The cluster as it was at a moment, and notes on what the log lacks.

    Raises LiesAhead, StoreUnavailable.
    """
    if at_ms > await clock_ms(store):
        raise LiesAhead(f"{moment(at_ms)} lies ahead")
    cluster, past = Cluster(store.bounds.retention_ms), Past(store, at_ms)
    of = sum(await log_lengths(store))
    async for page in past.pages():
        for entry in page:
            cluster.add(entry)
        tell(Progress(cluster.entries, of))
        await rest()
    return state_of(cluster, at_ms), past.notes


async def states(
    store: EventStore, from_ms: int, to_ms: int, step_ms: int
) -> AsyncGenerator[State, None]:
    """The cluster at each of several moments, one after the other. Raises StoreUnavailable."""
    cluster, due_ms = Cluster(store.bounds.retention_ms), from_ms
    async for page in Past(store, to_ms).pages():
        for entry in page:
            while entry.at_ms > due_ms:
                yield state_of(cluster, due_ms)
                due_ms += step_ms
            cluster.add(entry)
    while due_ms <= to_ms:
        yield state_of(cluster, due_ms)
        due_ms += step_ms


async def timeline(
    store: EventStore, job_id: str, tell: Tell = _silent, rest: Rest = _at_once
) -> tuple[Timeline, list[str]]:
    """A job's life so far, and notes on what the log lacks. Raises UnknownJob, StoreUnavailable."""
    if not is_job_id(job_id):
        raise UnknownJob(job_id)
    now_ms = await clock_ms(store)
    cluster, past, teller = Cluster(store.bounds.retention_ms), Past(store, now_ms), Teller(job_id)
    of = sum(await log_lengths(store))
    until_ms = await _last_ms(store, job_id)
    async for page in past.pages():
        for entry in page:
            step = cluster.add(entry)
            if step is not None:
                teller.see(entry, step, cluster)
            else:
                teller.see_redacted(entry, cluster)
        tell(Progress(cluster.entries, of))
        if until_ms is not None and cluster.at_ms > until_ms:
            break
        await rest()
    told = teller.tell(now_ms)
    if told is None:
        raise UnknownJob(job_id)
    return told, past.notes


async def _last_ms(store: EventStore, job_id: str) -> int | None:
    """When the last entry of an ended job was written; None if there may be more, or nobody knows."""
    head = await store.load(job_id)
    return head.time_ms(head.job.version) if head is not None and has_ended(head.job) else None


async def trace(
    store: EventStore, from_ms: int, to_ms: int, tell: Tell = _silent
) -> AsyncGenerator[TraceEvent, None]:
    """A stretch of the log as trace events. Raises LiesAhead, StoreUnavailable."""
    to_ms = await _until(store, from_ms, to_ms)
    cluster, tracer, has_begun = Cluster(store.bounds.retention_ms), Tracer(from_ms), False
    of = sum(await log_lengths(store))
    async for page in Past(store, to_ms).pages():
        for entry in page:
            if not has_begun and entry.at_ms >= from_ms:
                has_begun = True
                for event in tracer.begin(cluster):
                    yield event
            step = cluster.add(entry)
            if has_begun and step is not None:
                for event in tracer.see(step):
                    yield event
        tell(Progress(cluster.entries, of))
    for event in () if has_begun else tracer.begin(cluster):
        yield event
    for event in tracer.end(cluster, to_ms):
        yield event


async def incident(
    store: EventStore, from_ms: int, to_ms: int, tell: Tell = _silent
) -> tuple[Report, list[str]]:
    """What happened between two moments, and notes on what the log lacks.

    Raises LiesAhead, StoreUnavailable.
    """
    to_ms = await _until(store, from_ms, to_ms)
    cluster, past = Cluster(store.bounds.retention_ms), Past(store, to_ms)
    investigator = Investigator(from_ms, to_ms)
    of = sum(await log_lengths(store))
    async for page in past.pages():
        for entry in page:
            step = cluster.add(entry)
            if step is not None:
                investigator.see(step)
        tell(Progress(cluster.entries, of))
    return investigator.report(cluster), past.notes


async def workload(
    store: EventStore, from_ms: int, to_ms: int, tell: Tell = _silent
) -> tuple[Workload, list[str]]:
    """What jobs asked of the workers between two moments, and notes on what the log lacks.

    Raises LiesAhead, StoreUnavailable.
    """
    to_ms = await _until(store, from_ms, to_ms)
    cluster, past = Cluster(store.bounds.retention_ms), Past(store, to_ms)
    recorder, has_begun = Recorder(from_ms, to_ms), False
    of = sum(await log_lengths(store))
    async for page in past.pages():
        for entry in page:
            if not has_begun and entry.at_ms >= from_ms:
                has_begun = True
                recorder.begin(cluster)
            step = cluster.add(entry)
            if has_begun and step is not None:
                recorder.see(step)
        tell(Progress(cluster.entries, of))
    if not has_begun:
        recorder.begin(cluster)
    return recorder.workload(), past.notes


async def export(
    store: EventStore,
    from_ms: int,
    to_ms: int,
    write: Callable[[list[Row]], None],
    tell: Tell = _silent,
    *,
    with_contents: bool,
) -> list[str]:
    """Write the entries between two moments as rows, page by page; notes on what the log lacks.

    Raises LiesAhead, StoreUnavailable, and whatever `write` does.
    """
    to_ms = await _until(store, from_ms, to_ms)
    cluster, past = Cluster(store.bounds.retention_ms), Past(store, to_ms)
    of = sum(await log_lengths(store))
    async for page in past.pages():
        rows = []
        for entry in page:
            step = cluster.add(entry)
            if entry.at_ms >= from_ms:
                rows.append(row_of(entry, step, with_contents=with_contents))
        write(rows)
        tell(Progress(cluster.entries, of))
    return past.notes


async def _until(store: EventStore, from_ms: int, to_ms: int) -> int:
    """When a stretch of time ends: now at the latest. Raises LiesAhead, StoreUnavailable."""
    now_ms = await clock_ms(store)
    if from_ms > now_ms:
        raise LiesAhead(f"{moment(from_ms)} lies ahead")
    return min(to_ms, now_ms)
