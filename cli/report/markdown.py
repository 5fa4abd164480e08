"""An incident's report as Markdown: what stands out, what changed when, which jobs lost most."""

from collections.abc import Iterable, Iterator

from projections.past.report import Hurt, Percentiles, Report
from projections.past.words import clock, duration, moment

_ROWS_MAX = 24


def markdown(report: Report, notes: list[str]) -> str:
    """The whole report."""
    parts = [
        f"# {title(report)}",
        "\n".join(f"- {one}" for one in report.findings),
        "## What changed",
        _changes(report),
        "## Over time",
        "\n".join(_table(*_over_time(report))),
        "## The jobs that lost most",
        "\n".join(_table(*_hurt(report.hurt))) if report.hurt else "No job lost any time.",
    ]
    if notes:
        parts += ["## What the log lacks", "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(parts) + "\n"


def title(report: Report) -> str:
    """What the report is of."""
    since, until = moment(report.from_ms)[:-5], moment(report.to_ms)[:-5]
    if since[:10] == until[:10]:
        return f"Incident of {since[:10]}, {since[11:]} to {until[11:]} UTC"
    return f"Incident from {since.replace('T', ' ')} to {until.replace('T', ' ')} UTC"


def _changes(report: Report) -> str:
    lines = [f"1. {clock(one.at_ms)} {one.what}" for one in report.changes]
    if report.changes_left_out:
        lines.append(f"1. and {report.changes_left_out} more")
    return "\n".join(lines) or "No worker came or went, and no queue was paused."


def _over_time(report: Report) -> tuple[tuple[str, ...], Iterator[tuple[str, ...]]]:
    every = max(1, -(-len(report.slices) // _ROWS_MAX))
    heads = (
        "from",
        *("#came", "#claimed", "#ended", "#most in line", "#running", "#slots"),
        *("#wait p50", "#p95"),
    )

    def rows() -> Iterator[tuple[str, ...]]:
        for first in range(0, len(report.slices), every):
            some = report.slices[first : first + every]
            worst = max((one.wait_ms for one in some if one.wait_ms), key=_p95, default=None)
            yield (
                clock(some[0].from_ms),
                str(sum(one.arrived for one in some)),
                str(sum(one.claimed for one in some)),
                str(sum(sum(one.ended.values()) for one in some)),
                str(max(one.waiting for one in some)),
                str(max(one.running for one in some)),
                str(some[-1].capacity),
                "" if worst is None else duration(worst.p50),
                "" if worst is None else duration(worst.p95),
            )

    return heads, rows()


def _p95(wait: Percentiles) -> float:
    return wait.p95


def _hurt(jobs: Iterable[Hurt]) -> tuple[tuple[str, ...], Iterator[tuple[str, ...]]]:
    heads = (
        *("job", "queue", "model", "#came", "#in line", "#in vain", "#attempts"),
        *("now", "last attempt"),
    )
    rows = (
        (
            f"`{one.job_id}`",
            one.queue,
            one.model,
            clock(one.submitted_ms),
            duration(one.waited_ms),
            duration(one.wasted_ms) if one.wasted_ms else "",
            str(one.attempts),
            one.status,
            one.outcome,
        )
        for one in jobs
    )
    return heads, rows


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """The names of columns of numbers begin with `#`."""
    yield "| " + " | ".join(head.lstrip("#") for head in heads) + " |"
    yield "|" + "|".join(" ---: " if head.startswith("#") else " --- " for head in heads) + "|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
