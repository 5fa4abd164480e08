"""`respool replay`: what the log tells. `verify` holds the store against it, `repair` mends the store."""

import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from cli.archive import archive_of
from cli.client import json_option
from cli.embedded import running_store
from cli.lazy import LazyGroup
from cli.loop import run
from cli.opening import without_password
from cli.process import settings_of_environment
from core.errors import StoreError
from core.redis import connect
from core.store import EventStore
from migrations.runner import shard_count
from projections.replay.repair import Repaired, repair
from projections.replay.verify import Progress, Report, Tell, verify

_PATIENCE_SECONDS: Final = 5.0


_PLACES: Final = {
    "timeline": "cli.past:timeline_command",
    "state": "cli.past:state_command",
    "trace": "cli.past:trace_command",
    "incident": "cli.incident:incident_command",
    "whatif": "cli.whatif:whatif_command",
    "export": "cli.export:export_command",
}


@click.group(cls=LazyGroup, places=_PLACES)
def replay() -> None:
    """What the log tells: of a job, of a moment, of an incident; hold the store against it, and mend it.

    At REDIS_URL; without it, in the store of the `respool up` that runs on RESPOOL_DATA_DIR.
    """


@replay.command("verify")
@json_option
def verify_command(as_json: bool) -> None:
    """Compare everything that is derived from the log with the log.

    Jobs may go on meanwhile. Exit status 1 if anything differs; each difference is named.

    \b
    Example: REDIS_URL=redis://localhost:6379/0 respool replay verify
    """

    async def work(store: EventStore, tell: Tell) -> Report:
        return (await verify(store, tell))[0]

    report = on_the_store(work)
    if as_json:
        print_json(report_as_json(report))
    else:
        print_report(report)
    sys.exit(1 if report.differences else 0)


@replay.command("repair")
@click.option(
    "--accept-gaps",
    is_flag=True,
    help="Go on without the entries that the log lacks; jobs that they were of are parked.",
)
@json_option
def repair_command(accept_gaps: bool, as_json: bool) -> None:
    """Write what is derived from the log anew where it differs from the log.

    Jobs may go on meanwhile. Exit status 1 if something is left that the log cannot tell.

    \b
    Example: REDIS_URL=redis://localhost:6379/0 respool replay repair
    """

    async def work(store: EventStore, tell: Tell) -> Repaired:
        return await repair(store, accept_gaps=accept_gaps, tell=tell)

    repaired = on_the_store(work)
    if as_json:
        mended = [_finding(one) for one in repaired.mended]
        print_json({"mended": mended, **report_as_json(repaired.report)})
    else:
        for one in repaired.mended:
            click.echo(f"mended: {one}")
        print_report(repaired.report)
    sys.exit(1 if repaired.report.differences else 0)


def on_the_store(work: Callable[[EventStore, Tell], Coroutine[Any, Any, Any]]) -> Any:
    """What `work` makes of the store that the environment names, with bars where somebody watches."""

    async def role() -> Any:
        async with the_store() as store:
            with progress() as tell:
                return await work(store, tell)

    return run(role())


@asynccontextmanager
async def the_store() -> AsyncIterator[EventStore]:
    """The store that the environment names. Raises StoreError, SettingsError, DataDirError."""
    settings = settings_of_environment()
    url = settings.redis_url or await running_store(settings.respool_data_dir)
    client = connect(url)
    try:
        bounds = settings.bounds(_PATIENCE_SECONDS)
        shards = await shard_count(client)
        yield EventStore(client, shards, bounds, archive=archive_of(settings))
    except StoreError as error:
        raise type(error)(f"{error} (the store is {without_password(url)})") from error
    finally:
        await client.aclose()


@contextmanager
def progress() -> Iterator[Tell]:
    """Bars with the time that is left, where somebody watches."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def tell(progress: Progress) -> None:
            name = f"shard {progress.shard}: {progress.what}"
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=progress.done, total=progress.of)

        yield tell


def print_report(report: Report) -> None:
    """Say what was compared and what differs."""
    for one in report.accepted:
        click.echo(f"accepted: {one}")
    for one in report.differences:
        click.echo(str(one))
    compared = (
        f"{report.entries} log entries, {report.subjects} jobs, workers and queues: heads, lanes, "
        "timers, counts and views"
    )
    count = len(report.differences)
    said = "as the log says" if not count else f"{count} difference{'s' if count > 1 else ''}"
    click.echo(f"{compared}: {said}")


def report_as_json(report: Report) -> dict[str, Any]:
    """A report for scripts."""
    return {
        "entries": report.entries,
        "subjects": report.subjects,
        "differences": [_finding(one) for one in report.differences],
        "accepted": [_finding(one) for one in report.accepted],
    }


def _finding(one: Any) -> dict[str, Any]:
    return {**msgspec.to_builtins(one), "message": str(one)}


def print_json(value: Any) -> None:
    """Print a value for scripts."""
    click.echo(msgspec.json.encode(value))
