"""`respool replay whatif`: the same jobs with other workers, simulated."""

from collections.abc import Iterator
from typing import Final

import click
from rich.table import Table

from cli.client import ClientError, json_option
from cli.moments import TAKES, Moment
from cli.past import check_order, print_notes, told
from cli.replay import on_the_store, print_json
from cli.tables import add_row, console, new_table
from core.store import EventStore
from projections.past.looking import LiesAhead, workload
from projections.past.whatif import Comparison, Crew, Waits, compare, models_of
from projections.past.words import clock, duration, some
from projections.past.workload import Workload
from projections.replay import verify

_BELIEVED_WITHIN: Final = 0.1  # Farther from what was recorded, a simulation is said to be off.
_NOTICED_MS: Final = 50


@click.command("whatif")
@click.option("--from", "from_ms", type=Moment(), required=True, help=f"When: {TAKES}.")
@click.option("--to", "to_ms", type=Moment(), default="now", show_default=True)
@click.option("--workers", type=click.IntRange(1, 10_000), help="So many instead.")
@click.option("--concurrency", type=click.IntRange(1, 10_000), help="Jobs at once, each.")
@click.option(
    "--model", "models", multiple=True, help="What they serve, several times. [default: all]"
)
@json_option
def whatif_command(
    from_ms: int,
    to_ms: int,
    workers: int | None,
    concurrency: int | None,
    models: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say how long jobs would have waited with other workers, beside how long they did.

    Simulates the claims of the jobs that came, each running as long as it did, by the policy that workers
    claim by. The capacity as it was is simulated too, which says how far the rest can be believed. Without
    --workers and --concurrency, that alone.

    \b
    Example: respool replay whatif --from 14:00 --to 14:30 --workers 6 --concurrency 4
    """
    check_order(from_ms, to_ms)
    if (workers is None) != (concurrency is None) or (models and workers is None):
        raise click.UsageError("takes --workers and --concurrency together, or neither")

    async def record(store: EventStore, tell: verify.Tell) -> tuple[Workload, list[str]]:
        return await workload(store, from_ms, to_ms, told(tell))

    try:
        recorded, notes = on_the_store(record)
    except LiesAhead as error:
        raise ClientError(str(error)) from error
    known = models_of(recorded)
    for model in models:
        if model not in known:
            asked = ", ".join(known) or "none at all"
            raise ClientError(f"no job asked for model {model!r} in that time; there were {asked}")
    crew = None
    if workers is not None and concurrency is not None:
        crew = Crew(workers=workers, concurrency=concurrency, models=models or known)
    compared = compare(recorded, crew)
    notes = [*notes, *_notes(compared)]
    if as_json:
        print_json({"whatif": compared, "notes": notes})
        return
    click.echo(
        f"{some(compared.jobs, 'job')} in line from {clock(from_ms)} to {clock(to_ms)}, "
        f"{some(compared.recorded.waits.claims, 'claim')}"
    )
    console().print(_table(compared))
    print_notes(notes)


def _notes(compared: Comparison) -> Iterator[str]:
    then, again = compared.recorded.waits.ms, compared.simulated.waits.ms
    if then is None or again is None:
        return
    for name in ("p50", "p95"):
        was, is_now = getattr(then, name), getattr(again, name)
        off_ms = abs(is_now - was)
        if off_ms > max(_BELIEVED_WITHIN * was, _NOTICED_MS):
            yield (
                f"with the workers as they were the simulation gives a {name} of {duration(is_now)} where "
                f"{duration(was)} was recorded: something other than their number held jobs up"
            )


def _table(compared: Comparison) -> Table:
    figures = [compared.recorded, compared.simulated]
    heads = ["#then", "#then, simulated"]
    if compared.crew is not None and compared.what_if is not None:
        figures.append(compared.what_if)
        crew = compared.crew
        heads.append(f"#{some(crew.workers, 'worker')} x {some(crew.concurrency, 'slot')}")
    table = new_table("wait", *heads)
    for name, which in (("median", "p50"), ("p95", "p95"), ("p99", "p99"), ("longest", "longest")):
        add_row(table, name, *(_shown(one.waits, which) for one in figures))
    for queue in _several(compared.recorded.by_queue):
        shown = (_shown(one.by_queue.get(queue), "p95") for one in figures)
        add_row(table, f"p95 in queue {queue}", *shown)
    for priority in _several(compared.recorded.by_priority):
        shown = (_shown(one.by_priority.get(priority), "p95") for one in figures)
        add_row(table, f"p95 of priority {priority}", *shown)
    add_row(table, "claims", *(one.waits.claims for one in figures))
    add_row(table, "in line at the end", *(one.in_line_at_end for one in figures))
    add_row(table, "slots busy", *(f"{one.busy:.0%}" for one in figures))
    return table


def _several(groups: dict[str, Waits]) -> list[str]:
    return list(groups) if len(groups) > 1 else []


def _shown(waits: Waits | None, which: str) -> str | None:
    if waits is None or waits.ms is None or waits.longest_ms is None:
        return None
    return duration(waits.longest_ms if which == "longest" else getattr(waits.ms, which))
