"""The plots of an incident's report, as SVG."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import Any, Final

from projections.past.report import Report, Slice

_SIZE_INCHES: Final = (10.0, 2.6)
_BAD: Final = ("attempt_failed", "attempt_lost", "failed")
_WAITS: Final = ("p50", "p95", "p99")


def plots(report: Report) -> list[tuple[str, str]]:
    """A title and an SVG each. Raises ImportError where matplotlib is not installed."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow to import.

    at = [datetime.fromtimestamp(one.from_ms / 1_000, UTC) for one in report.slices]
    changes = [datetime.fromtimestamp(one.at_ms / 1_000, UTC) for one in report.changes]

    def drawn(draw: Callable[[Any, Sequence[datetime], Sequence[Slice]], None]) -> str:
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        axes: Any = figure.subplots()
        draw(axes, at, report.slices)
        for moment in changes:
            axes.axvline(moment, color="#999", linewidth=0.7, linestyle=":")
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, axis="y", linewidth=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left", fontsize="small", frameon=False)
        svg = StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
        text = svg.getvalue()
        return text[text.index("<svg") :]

    return [
        ("Jobs in line", drawn(_depth)),
        ("Running jobs and slots", drawn(_running)),
        ("Wait, seconds", drawn(_waits)),
        ("Attempts that came to nothing", drawn(_failures)),
    ]


def _depth(axes: Any, at: Sequence[datetime], slices: Sequence[Slice]) -> None:
    axes.fill_between(at, [one.waiting for one in slices], step="post", color="#4477aa", alpha=0.6)


def _running(axes: Any, at: Sequence[datetime], slices: Sequence[Slice]) -> None:
    axes.step(at, [one.capacity for one in slices], where="post", color="#cc3311", label="slots")
    running = [one.running for one in slices]
    axes.fill_between(at, running, step="post", color="#228833", alpha=0.6, label="running")


def _waits(axes: Any, at: Sequence[datetime], slices: Sequence[Slice]) -> None:
    for name, color in zip(_WAITS, ("#88ccee", "#4477aa", "#222255"), strict=True):
        waits = [
            float("nan") if one.wait_ms is None else getattr(one.wait_ms, name) / 1_000
            for one in slices
        ]
        axes.plot(at, waits, color=color, label=name, marker=".", markersize=3, linewidth=1)


def _failures(axes: Any, at: Sequence[datetime], slices: Sequence[Slice]) -> None:
    width = (at[1] - at[0]) if len(at) > 1 else 0.001
    base = [0] * len(at)
    for outcome, color in zip(_BAD, ("#ccbb44", "#ee7733", "#cc3311"), strict=True):
        counts = [one.ended.get(outcome, 0) for one in slices]
        if any(counts):
            axes.bar(at, counts, width, bottom=base, align="edge", color=color, label=outcome)
            base = [low + count for low, count in zip(base, counts, strict=True)]
