"""`respool replay export`: the log as a table, for DuckDB, pandas and whatever else reads one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from cli.client import ClientError
from cli.moments import TAKES, Moment
from cli.past import check_order, print_notes, told
from cli.replay import on_the_store
from cli.report.files import JsonLines, LibraryMissing, Parquet, Writer
from core.store import EventStore
from projections.past.looking import LiesAhead, export
from projections.past.words import some
from projections.replay import verify

_WRITERS: Final[Mapping[str, type[JsonLines] | type[Parquet]]] = {
    ".jsonl": JsonLines,
    ".parquet": Parquet,
}


@click.command("export")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="A .jsonl or .parquet file.",
)
@click.option("--from", "from_ms", type=Moment(), help=f"When: {TAKES}. [default: all]")
@click.option("--to", "to_ms", type=Moment(), default="now", show_default=True)
@click.option("--with-contents", is_flag=True, help="Requests and results too: what people wrote.")
def export_command(output: Path, from_ms: int | None, to_ms: int, *, with_contents: bool) -> None:
    """Write the log as one flat table, a row for each entry, for DuckDB, pandas or jq.

    Beside each transition of a job stand its queue, model, tenant and priority, beside a claim how long it
    had waited, beside an attempt's end how long it had its slot. README lists the columns.

    \b
    Example: respool replay export -o log.parquet --from "24h ago"
             duckdb -c "select model, median(waited_ms) from 'log.parquet' group by model"
    """
    if output.suffix not in _WRITERS:
        raise click.UsageError(
            f"--output takes a name that ends with .jsonl or .parquet, not {output}"
        )
    if from_ms is not None:
        check_order(from_ms, to_ms)
    try:
        with _written(output, with_contents=with_contents) as writer:

            async def work(store: EventStore, tell: verify.Tell) -> list[str]:
                return await export(
                    store,
                    from_ms or 0,
                    to_ms,
                    writer.write,
                    told(tell),
                    with_contents=with_contents,
                )

            notes = on_the_store(work)
    except (LiesAhead, LibraryMissing) as error:
        raise ClientError(str(error)) from error
    except OSError as error:
        raise ClientError(f"{output} cannot be written: {error.strerror or error}") from error
    click.echo(f"{some(writer.rows, 'row')} in {output}", err=True)
    print_notes(notes)


@contextmanager
def _written(output: Path, *, with_contents: bool) -> Iterator[Writer]:
    """A writer of a file that has its name only once it is whole."""
    unfinished = output.with_name(f".{output.name}.unfinished")
    try:
        with _WRITERS[output.suffix](unfinished, with_contents=with_contents) as writer:
            yield writer
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)
