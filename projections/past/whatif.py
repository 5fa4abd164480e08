"""What other capacity would have done: waits as they were, as simulated, and as they would have been. Pure."""

from collections.abc import Callable, Iterable
from math import ceil

from msgspec import Struct

from projections.past.report import Percentiles
from projections.past.simulation import Simulation, crew_of
from projections.past.workload import Played, Waited, Workload


class Crew(Struct, frozen=True, kw_only=True):
    """Workers that somebody thinks of: alike, serving every queue, there all the while."""

    workers: int
    concurrency: int  # Jobs at once, each.
    models: tuple[str, ...]


class Waits(Struct, frozen=True, kw_only=True):
    """Of the claims of a stretch of time; in milliseconds."""

    claims: int
    ms: Percentiles | None  # None: there were no claims.
    longest_ms: int | None


class Figures(Struct, frozen=True, kw_only=True):
    """What came of the workload."""

    waits: Waits
    by_queue: dict[str, Waits]
    by_priority: dict[str, Waits]
    in_line_at_end: int
    busy: float  # The share of all slots' time that was spent on attempts.


class Comparison(Struct, frozen=True, kw_only=True):
    """The same arrivals and run times with several capacities."""

    from_ms: int
    to_ms: int
    jobs: int  # That came into line, or were in it.
    recorded: Figures
    simulated: Figures  # With the workers that there were: how far the simulation can be believed.
    crew: Crew | None
    what_if: Figures | None  # With that crew.


def compare(workload: Workload, crew: Crew | None) -> Comparison:
    """Simulate what was, and what might have been."""
    what_if = None
    if crew is not None:
        shifts = crew_of(workload, crew.workers, crew.concurrency, crew.models)
        what_if = Simulation(workload, shifts).run()
    return Comparison(
        from_ms=workload.from_ms,
        to_ms=workload.to_ms,
        jobs=len(workload.arrivals),
        recorded=figures(workload.recorded),
        simulated=figures(Simulation(workload, workload.shifts).run()),
        crew=crew,
        what_if=None if what_if is None else figures(what_if),
    )


def models_of(workload: Workload) -> tuple[str, ...]:
    """Every model that was asked for."""
    return tuple(sorted({one.model for one in workload.arrivals}))


def figures(played: Played) -> Figures:
    """What came of a workload, in figures."""
    return Figures(
        waits=_waits(played.waits),
        by_queue=_by(played.waits, lambda one: one.queue),
        by_priority=_by(played.waits, lambda one: one.priority.value),
        in_line_at_end=played.in_line,
        busy=min(1.0, played.busy_ms / played.capacity_ms) if played.capacity_ms else 0.0,
    )


def _by(waits: Iterable[Waited], key: Callable[[Waited], str]) -> dict[str, Waits]:
    groups: dict[str, list[Waited]] = {}
    for one in waits:
        groups.setdefault(key(one), []).append(one)
    return {name: _waits(groups[name]) for name in sorted(groups)}


def _waits(waits: Iterable[Waited]) -> Waits:
    ordered = sorted(one.ms for one in waits)
    if not ordered:
        return Waits(claims=0, ms=None, longest_ms=None)

    def percentile(share: float) -> float:  # By the nearest rank.
        return float(ordered[max(0, ceil(share * len(ordered)) - 1)])

    percentiles = Percentiles(percentile(0.5), percentile(0.95), percentile(0.99))
    return Waits(claims=len(ordered), ms=percentiles, longest_ms=ordered[-1])
