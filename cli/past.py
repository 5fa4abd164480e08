"""`respool replay timeline` and `state`: looking back at a job, and at the whole cluster."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import BinaryIO, Final

import click
import msgspec
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.client import ClientError, json_option
from cli.loop import run
from cli.moments import TAKES, Moment
from cli.replay import on_the_store, print_json, the_store
from cli.tables import add_row, console, new_table
from core.errors import UnknownJob
from core.store import EventStore
from projections.building import clock_ms
from projections.past.looking import LiesAhead, Tell, state_at, states, timeline, trace
from projections.past.state import State
from projections.past.timeline import Timeline
from projections.past.words import clock, duration, moment, some
from projections.replay import verify

_FRAMES_PER_SECOND: Final = 4


@click.command("timeline")
@click.argument("job_id", metavar="JOB")
@json_option
def timeline_command(job_id: str, as_json: bool) -> None:
    """Tell a job's life: each transition with its cause, and what it waited for in between.

    \b
    Example: respool replay timeline 06bq3w8m5t1v0zyh200
    """
    try:
        found, notes = on_the_store(lambda store, tell: timeline(store, job_id, told(tell)))
    except UnknownJob as error:
        raise ClientError(f"{error}; `respool jobs` lists them") from error
    if as_json:
        print_json({"timeline": found, "notes": notes})
    else:
        _print_timeline(found)
        print_notes(notes)


@click.command("state")
@click.option("--at", "at_ms", type=Moment(), required=True, help=f"When: {TAKES}.")
@click.option("--watch", is_flag=True, help="Play on from there, until now or Ctrl-C.")
@click.option("--speed", type=click.FloatRange(0.1, 100_000), default=10.0, show_default=True)
@json_option
def state_command(at_ms: int, watch: bool, speed: float, as_json: bool) -> None:
    """Show queues, workers and what they ran as they were at some moment.

    \b
    Example: respool replay state --at 14:03:07
             respool replay state --at "2h ago" --watch --speed 60
    """
    if watch:
        run(_play(at_ms, speed, as_json=as_json))
        return
    try:
        state, notes = on_the_store(lambda store, tell: state_at(store, at_ms, told(tell)))
    except LiesAhead as error:
        raise ClientError(str(error)) from error
    if as_json:
        print_json({"state": state, "notes": notes})
    else:
        console().print(_shown(state))
        print_notes(notes)


@click.command("trace")
@click.option("--from", "from_ms", type=Moment(), required=True, help=f"When: {TAKES}.")
@click.option("--to", "to_ms", type=Moment(), default="now", show_default=True)
@click.option("--output", "-o", type=click.File("wb", lazy=True), default="-", help="A file.")
def trace_command(from_ms: int, to_ms: int, output: BinaryIO) -> None:
    """Write a stretch of the log as a trace that ui.perfetto.dev and chrome://tracing open.

    \b
    Example: respool replay trace --from 14:00 --to 14:10 -o incident.json
    """
    check_order(from_ms, to_ms)

    async def write(store: EventStore, tell: verify.Tell) -> None:
        separator = b"[\n"
        async with aclosing(trace(store, from_ms, to_ms, told(tell))) as events:
            async for event in events:
                output.write(separator + msgspec.json.encode(event))
                separator = b",\n"
        output.write(b"\n]\n")

    try:
        on_the_store(write)
    except LiesAhead as error:
        raise ClientError(str(error)) from error


def check_order(from_ms: int, to_ms: int) -> None:
    """Raises click.UsageError unless one moment comes before the other."""
    if from_ms >= to_ms:
        message = f"--from {moment(from_ms)} has to come before --to {moment(to_ms)}"
        raise click.UsageError(message)


def told(tell: verify.Tell) -> Tell:
    """Progress as the bars show it."""
    return lambda one: tell(verify.Progress(0, "reading the log", one.entries, one.of))


async def _play(at_ms: int, speed: float, *, as_json: bool) -> None:
    """One state after the other, as time went then, but `speed` times as fast."""
    step_ms = max(1, round(1_000 * speed / _FRAMES_PER_SECOND))
    async with the_store() as store:
        playing = states(store, at_ms, await clock_ms(store), step_ms)
        async with aclosing(playing):
            with _screen(as_json=as_json) as show:
                began = time.monotonic()
                async for state in playing:
                    due = began + (state.at_ms - at_ms) / 1_000 / speed
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    show(state)


@contextmanager
def _screen(*, as_json: bool) -> Iterator[Callable[[State], None]]:
    """Where states are shown: one in the place of the other on a terminal, else one after the other."""
    if as_json:
        yield print_json
    elif not sys.stdout.isatty():
        yield lambda state: console().print(_shown(state))
    else:
        with Live(auto_refresh=False) as live:
            yield lambda state: live.update(_shown(state), refresh=True)


def _shown(state: State) -> Group:
    total = (
        f"{moment(state.at_ms)}: {some(state.waiting, 'job')} waiting, {state.running} running in "
        f"{some(state.capacity, 'slot')}, {state.scheduled} scheduled"
    )
    return Group(Text(total), _queues(state), _workers(state))


def _queues(state: State) -> Table:
    table = new_table("queue", "#waiting", "#running", "#scheduled", "#oldest", "waiting for")
    for queue in state.queues:
        models = ", ".join(f"{count} {name}" for name, count in queue.waiting_by_model.items())
        oldest = queue.oldest_waiting_ms
        add_row(
            table,
            queue.name + (" (paused)" if queue.paused else ""),
            queue.waiting,
            queue.running,
            queue.scheduled,
            None if oldest is None else duration(oldest),
            models,
        )
    return table


def _workers(state: State) -> Table:
    table = new_table("worker", "status", "#since", "#running", "models", "jobs")
    for worker in state.workers:
        jobs = [f"{one.job_id} ({duration(state.at_ms - one.since_ms)})" for one in worker.running]
        add_row(
            table,
            worker.name,
            worker.status.value,
            duration(state.at_ms - worker.since_ms),
            f"{len(worker.running)}/{worker.capacity}",
            ", ".join(worker.models),
            ", ".join(jobs),
        )
    return table


def _print_timeline(told: Timeline) -> None:
    click.echo(f"{told.job_id}: {told.status}, queue {told.queue}, model {told.model}")
    for one in told.moments:
        if one.before is not None:
            click.echo(f"{'':14}{one.before.says}")
        click.echo(f"{clock(one.at_ms)}  {one.says}")
    if told.now is not None:
        click.echo(f"{'':14}so far: {told.now.says}")
    spent = ", ".join(f"{status} {duration(ms)}" for status, ms in told.spent_ms.items())
    if spent:
        click.echo(f"in all: {spent}")


def print_notes(notes: list[str]) -> None:
    """Say on standard error what a reader should know of what was read."""
    for note in notes:
        click.echo(f"note: {note}", err=True)
