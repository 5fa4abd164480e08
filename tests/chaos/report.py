"""What a run came to: a table for people, JSON for programs."""

from statistics import median
from typing import Any

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from tests.chaos.verdict import Figures


class Memory(Struct, frozen=True, kw_only=True):
    """Resident bytes of a process that lived through the run; None where the system does not say."""

    name: str
    at_start_bytes: int | None
    at_end_bytes: int | None


class Report(Struct, frozen=True, kw_only=True):
    """A whole run."""

    seed: int
    server: str
    lease_seconds: float
    duration_seconds: float
    faults: dict[str, int]  # By kind.
    figures: Figures
    answers: dict[str, int]  # What clients were answered, and the errors that they got instead.
    memory: list[Memory]
    redis_used_bytes: int
    redis_peak_bytes: int
    processes: int  # Started in all.
    violations: list[str]


def summary(report: Report) -> dict[str, Any]:
    """The report for a program, with the figures that a person would ask for first."""
    recovered = report.figures.recovered_ms
    more = {
        "faults_injected": sum(report.faults.values()),
        "recovery_median_ms": median(recovered) if recovered else None,
        "recovery_max_ms": max(recovered, default=None),
    }
    fields: dict[str, Any] = msgspec.to_builtins(report)
    return more | fields


def show(report: Report, console: Console) -> None:
    """Print the table."""
    table = Table(title=f"Chaos, seed {report.seed}, on {report.server}", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in _rows(report):
        table.add_row(name, value)
    console.print(table)
    for violation in report.violations:
        console.print(f"VIOLATION: {violation}", style="red", markup=False, highlight=False)


def _rows(report: Report) -> list[tuple[str, str]]:
    figures, recovered = report.figures, report.figures.recovered_ms
    rows = [("faults injected", f"{sum(report.faults.values()):,}")]
    rows += [(f"  {kind}", f"{count:,}") for kind, count in sorted(report.faults.items())]
    rows += [
        ("jobs accepted", f"{figures.jobs_accepted:,}"),
        ("lost", f"{figures.jobs_lost:,}"),
        ("lives ended twice", f"{figures.lives_ended_twice:,}"),
        ("lives without an ending", f"{figures.lives_without_an_ending:,}"),
        ("lives requeued", f"{figures.lives_requeued:,}"),
        ("endings", _counted(figures.endings)),
        ("attempts lost", _counted(figures.attempts_lost)),
        ("attempts failed", f"{figures.attempts_failed:,}"),
        ("jobs recovered after a kill or freeze", f"{len(recovered):,}"),
        ("  time to the next claim, median", _seconds(median(recovered) if recovered else None)),
        ("  time to the next claim, maximum", _seconds(max(recovered, default=None))),
        ("output chunks", f"{figures.output_chunks:,}"),
        ("output writes seen to be of a current claim", f"{figures.output_writes_checked:,}"),
        ("streams read, reconnections", f"{figures.readers:,}, {figures.reconnections:,}"),
        ("answers to clients", _counted(report.answers)),
        ("log entries of jobs", f"{figures.log_entries:,}"),
        ("processes started", f"{report.processes:,}"),
        (
            "Redis memory at the end, peak",
            f"{_mib(report.redis_used_bytes)}, {_mib(report.redis_peak_bytes)}",
        ),
    ]
    rows += [
        (
            f"{memory.name}: memory at start, at end",
            f"{_mib(memory.at_start_bytes)}, {_mib(memory.at_end_bytes)}",
        )
        for memory in report.memory
    ]
    rows += [
        ("lease", f"{report.lease_seconds:g} s"),
        ("duration", f"{report.duration_seconds:,.0f} s"),
        ("violations", f"{len(report.violations):,}"),
    ]
    return rows


def _counted(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count:,}" for name, count in ordered) or "0"


def _seconds(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds / 1_000:.2f} s"


def _mib(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes / 2**20:.1f} MiB"
