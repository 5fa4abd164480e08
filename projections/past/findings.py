"""What stands out in a report, in words: facts that a reader would look for in the plots. Pure."""

from collections.abc import Iterator
from typing import Final

from msgspec import structs

from core.events import ErrorKind
from core.fleet import WorkerStatus
from projections.past.report import Report, Slice
from projections.past.words import clock, duration, some

_WORSE: Final = 2  # So many times as long counts as longer.
_NOTICED_MS: Final = 1_000  # And what nobody notices does not.
_TIMES_MAX: Final = 5
_OF_LOSSES: Final = (ErrorKind.POISONED, ErrorKind.WORKER_LOST)


def findings(report: Report) -> Report:
    """The report with its findings."""
    found = (
        *_summary(report),
        *_waits(report),
        *_load(report),
        *_capacity(report),
        *_failures(report),
    )
    return structs.replace(report, findings=found)


def _summary(report: Report) -> Iterator[str]:
    ended = ", ".join(f"{count} {status}" for status, count in sorted(report.ended.items()))
    yield f"{some(report.submitted, 'job')} came; {ended or 'none ended'}"


def _waits(report: Report) -> Iterator[str]:
    now, before = report.wait_ms, report.wait_before_ms
    if now is None:
        yield "nothing was claimed"
        return
    yield f"jobs waited {duration(now.p50)} at the median, {duration(now.p95)} at p95"
    if before is None:
        return
    is_worse = now.p95 >= max(_WORSE * before.p95, before.p95 + _NOTICED_MS)
    compared = "before it was" if is_worse else "no worse than before:"
    yield f"{compared} {duration(before.p50)} and {duration(before.p95)}"


def _load(report: Report) -> Iterator[str]:
    """When most waited, and how it came to that."""
    deepest = max(report.slices, key=lambda one: one.waiting)
    if not deepest.waiting:
        return
    arrived = sum(one.arrived for one in report.slices if one.from_ms <= deepest.from_ms)
    claimed = sum(one.claimed for one in report.slices if one.from_ms <= deepest.from_ms)
    yield (
        f"the most in line were {deepest.waiting}, at {clock(deepest.from_ms)}; by then "
        f"{arrived} had come and {claimed} been claimed"
    )
    full_ms = _how_long(report, [one.running >= one.capacity > 0 for one in report.slices])
    if full_ms:
        yield f"every slot was taken for {duration(full_ms)}"
    idle_ms = _how_long(report, [_stands_idle(one) for one in report.slices])
    if idle_ms:
        yield f"for {duration(idle_ms)} jobs waited while most slots were free: a pause, or no worker for them"


def _stands_idle(one: Slice) -> bool:
    return one.waiting > 0 and one.claimed == 0 and 2 * one.running < one.capacity


def _how_long(report: Report, holds: list[bool]) -> int:
    step_ms = (report.to_ms - report.from_ms) // max(1, len(report.slices))
    return step_ms * sum(holds)


def _capacity(report: Report) -> Iterator[str]:
    capacities = [one.capacity for one in report.slices]
    if min(capacities) != max(capacities):
        yield (
            f"capacity was between {min(capacities)} and {some(max(capacities), 'slot')}; "
            f"{report.slices[-1].capacity} at the end"
        )
    lost = [one.until_ms for one in report.stays if one.became is WorkerStatus.LOST]
    if lost:
        at = ", ".join(clock(at_ms) for at_ms in lost[:_TIMES_MAX]) + (
            " and later" if len(lost) > _TIMES_MAX else ""
        )
        yield f"{some(len(lost), 'worker')} lost, noticed at {at}"
    if report.lost:
        yield f"{some(report.lost, 'attempt')} ended with a worker that was lost"


def _failures(report: Report) -> Iterator[str]:
    for kind, count in sorted(report.failures.items(), key=lambda one: -one[1]):
        if kind in _OF_LOSSES:
            yield f"{some(count, 'job')} given up: {kind}"
        else:
            yield f"{some(count, 'attempt')} failed with {kind}"
