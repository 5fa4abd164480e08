"""The plots of an incident's report, as SVG. All have the same axis of time, and what changed across it."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import Any, Final

from core.fleet import WorkerStatus
from projections.past.report import Change, Report, Slice

_WIDTH_INCHES: Final = 10.0
_HEIGHT_INCHES: Final = 2.2
_WORKER_INCHES: Final = 0.22
_NUMBERED_MAX: Final = 20  # More changes than that would hide each other's numbers.
_LEFT, _RIGHT = 0.055, 0.995  # Of the width: alike, so that plots can be read one under the other.
_WAITS: Final = (("p99", "#b8c7dc"), ("p95", "#4477aa"), ("p50", "#1b2f4b"))
_KINDS: Final = ("#cc3311", "#ee7733", "#ccbb44", "#aa3377", "#228833", "#66ccee", "#bbbbbb")
_BECAME: Final = {
    WorkerStatus.STARTED: "#228833",
    WorkerStatus.DRAINING: "#ccbb44",
    WorkerStatus.STOPPED: "#999999",
    WorkerStatus.LOST: "#cc3311",
}
_LINE: Final = {"color": "#888", "linewidth": 0.8, "linestyle": (0, (2, 2)), "zorder": 0.5}
_STYLE: Final[Any] = {
    "svg.fonttype": "none",  # Text stays text: it can be searched, and takes the page's font.
    "svg.hashsalt": "respool",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999",
    "xtick.color": "#555",
    "ytick.color": "#555",
}

_Draw = Callable[[Any, Report, Sequence[datetime]], None]


def plots(report: Report) -> list[tuple[str, str]]:
    """A title and an SVG each. Raises ImportError where matplotlib is not installed."""
    from matplotlib import rc_context  # noqa: PLC0415 - an extra, and slow to import.

    ways: list[tuple[str, _Draw, float]] = [
        ("Jobs in line", _depth, _HEIGHT_INCHES),
        ("Running jobs and slots", _running, _HEIGHT_INCHES),
        ("Wait of those claimed, seconds", _waits, _HEIGHT_INCHES),
        ("Attempts that came to nothing, by kind", _failures, _HEIGHT_INCHES),
        ("Workers", _workers, 0.5 + _WORKER_INCHES * (1.5 + len(report.stays))),
    ]
    with rc_context(_STYLE):
        return [(title, _drawn(draw, report, height)) for title, draw, height in ways]


def _drawn(draw: _Draw, report: Report, height_inches: float) -> str:
    from matplotlib import dates  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(_WIDTH_INCHES, height_inches))
    axes: Any = figure.subplots()
    bottom, top = 0.3 / height_inches, 1 - 0.22 / height_inches
    figure.subplots_adjust(left=_LEFT, right=_RIGHT, bottom=bottom, top=top)
    draw(axes, report, [_at(one.from_ms) for one in report.slices])
    _mark(axes, report.changes)
    axes.set_xlim(_at(report.from_ms), _at(report.to_ms))
    untyped: Any = dates
    locator = untyped.AutoDateLocator(tz=UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator, tz=UTC, show_offset=False))
    if axes.get_legend() is None and axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", fontsize="small", framealpha=0.85, edgecolor="none")
    svg = StringIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    text = svg.getvalue()
    return text[text.index("<svg") :]


def _at(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1_000, UTC)


def _mark(axes: Any, changes: Sequence[Change]) -> None:
    """A line for each change, with its number in the list."""
    for number, change in enumerate(changes, 1):
        axes.axvline(_at(change.at_ms), **_LINE)
        if len(changes) <= _NUMBERED_MAX:
            at = (_at(change.at_ms), 1.0)
            axes.annotate(
                str(number),
                at,
                xycoords=("data", "axes fraction"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                color="#666",
                fontsize=8,
            )


def _counted(axes: Any) -> None:
    """An axis of whole numbers from nothing on."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, axis="y", linewidth=0.3)


def _depth(axes: Any, report: Report, at: Sequence[datetime]) -> None:
    _area(axes, report, at, [one.waiting for one in report.slices], color="#4477aa")
    _counted(axes)


def _running(axes: Any, report: Report, at: Sequence[datetime]) -> None:
    running = [one.running for one in report.slices]
    _area(axes, report, at, running, color="#228833", label="running")
    capacity = [one.capacity for one in report.slices]
    end = [*at, _at(report.to_ms)]
    axes.step(end, [*capacity, capacity[-1]], where="post", color="#cc3311", label="slots")
    _counted(axes)


def _area(
    axes: Any, report: Report, at: Sequence[datetime], counts: Sequence[int], **style: Any
) -> None:
    """Counts that hold until the next slice, the last one until the end."""
    end = [*at, _at(report.to_ms)]
    axes.fill_between(end, [*counts, counts[-1]], step="post", alpha=0.6, linewidth=0, **style)


def _waits(axes: Any, report: Report, at: Sequence[datetime]) -> None:
    known = [
        (when, one.wait_ms) for when, one in zip(at, report.slices, strict=True) if one.wait_ms
    ]
    for name, color in _WAITS:
        waits = [getattr(wait, name) / 1_000 for _, wait in known]
        when = [when for when, _ in known]
        axes.plot(when, waits, color=color, label=name, marker=".", markersize=3, linewidth=1)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, axis="y", linewidth=0.3)


def _failures(axes: Any, report: Report, at: Sequence[datetime]) -> None:
    totals: Counter[str] = Counter()
    for one in report.slices:
        totals.update(one.failures)
    width = (at[1] - at[0]) if len(at) > 1 else (_at(report.to_ms) - _at(report.from_ms))
    base = [0] * len(at)
    most = [kind for kind, _ in totals.most_common(len(_KINDS) - 1)]
    for kind, color in zip([*most, "others"], _KINDS, strict=False):
        counts = [_count_of(kind, most, one) for one in report.slices]
        if any(counts):
            axes.bar(at, counts, width, bottom=base, align="edge", color=color, label=kind)
            base = [low + count for low, count in zip(base, counts, strict=True)]
    if not totals:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color="#666")
        axes.set_ylim(top=1)
    _counted(axes)


def _count_of(kind: str, most: Sequence[str], one: Slice) -> int:
    if kind in most:
        return one.failures.get(kind, 0)
    return sum(count for other, count in one.failures.items() if other not in most)


def _workers(axes: Any, report: Report, _: Sequence[datetime]) -> None:
    """A bar for each worker, in the colour of what became of it."""
    stays = sorted(report.stays, key=lambda one: (one.from_ms, one.worker), reverse=True)
    named = set()
    for row, stay in enumerate(stays):
        since, until = _at(stay.from_ms), _at(stay.until_ms)
        label = None if stay.became in named else stay.became.value
        named.add(stay.became)
        axes.barh(
            row, until - since, left=since, height=0.7, color=_BECAME[stay.became], label=label
        )
        axes.annotate(
            stay.worker,
            (since, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color="white",
            fontsize=7,
        )
    axes.set_yticks([])
    axes.set_ylim(-0.6, max(1, len(stays)) + 0.9)  # A row for the legend.
    axes.legend(loc="upper left", ncols=len(_BECAME), fontsize="small", frameon=False)
