"""`respool forget`: taking out of the store what people wrote, while what happened stays."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click
import msgspec
from rich.console import Console

from cli.client import json_option
from cli.loop import run
from cli.replay import print_json, the_store
from core.commands import Forget
from core.errors import StoreError
from core.ids import is_job_id
from core.nodes import primaries
from core.redis import answering
from core.store import EventStore
from projections.forgetting.forget import Forgotten, Listener, forget, found
from projections.forgetting.selection import Selection, Who

_ELSEWHERE: Final = (
    "backups made before now still have it, and so have Redis's own files until it has written them anew; "
    "docs/forgetting.md says how long"
)


@click.command("forget")
@click.option("--job", "jobs", multiple=True, metavar="ID", help="A job; any number of times.")
@click.option("--tenant", help="All jobs that the tenant has had.")
@click.option("--by", default="operator", show_default=True, help="Who asked for it.")
@click.option("--reason", help="Why, for the record: it stays.")
@click.option("--dry-run", is_flag=True, help="Only say which jobs are meant.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def forget_command(
    jobs: tuple[str, ...],
    tenant: str | None,
    by: str,
    reason: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Take requests and results out of log, archive and views, for good. What happened, and when, stays.

    Goes as well: metadata, messages of errors, reasons that somebody gave, output. At REDIS_URL and
    ARCHIVE_URL; without them, in the store of the `respool up` that runs on RESPOOL_DATA_DIR. Jobs
    may go on meanwhile. Exit status 1 if something is left: a job that has not ended, or what cannot be read.

    \b
    Example: respool forget --tenant team-a --reason "contract ended"
             respool forget --job 06bq3w8m5t1v0zyh200 --dry-run
    """
    who = _who(jobs, tenant)
    meant = run(_look(who))
    if dry_run:
        _tell_meant(meant, as_json=as_json)
        return
    ended = [job for job, life in meant.lives.items() if not life.is_open]
    if ended and not yes:
        click.confirm(f"forget {_jobs(len(ended))} for good?", abort=True, err=True)
    done, rewritten = run(_forget(who, Forget(by, reason)))
    if as_json:
        print_json(msgspec.to_builtins(done))
    else:
        _tell_done(done)
    if done.jobs and not rewritten:
        click.echo("Redis did not begin to write its append-only file anew: BGREWRITEAOF", err=True)
    if not done.is_whole:
        sys.exit(1)


def _who(jobs: tuple[str, ...], tenant: str | None) -> Who:
    if bool(jobs) == bool(tenant):
        raise click.UsageError("name either jobs (--job ID) or a tenant (--tenant NAME)")
    for job in jobs:
        if not is_job_id(job):
            raise click.BadParameter(
                f"{job!r} is no job's id: 19 characters such as 06bq3w8m5t1v0zyh200",
                param_hint="--job",
            )
    return Who(frozenset(jobs), tenant or None)


async def _look(who: Who) -> Selection:
    async with the_store() as store:
        with _listening() as listener:
            selection, notes = await found(store, who, listener.told)
    for note in notes:
        click.echo(f"cannot be read: {note}", err=True)
    for job in sorted(who.jobs - selection.lives.keys()):
        raise StoreError(f"neither the log nor the archive has a job {job}")
    return selection


async def _forget(who: Who, command: Forget) -> tuple[Forgotten, bool]:
    async with the_store() as store:
        with _listening() as listener:
            done = await forget(store, who, command, listener)
        return done, await _began_to_rewrite_files(store)


async def _began_to_rewrite_files(store: EventStore) -> bool:
    """Have Redis write its append-only file anew, which has every command since it last did."""
    try:
        async with answering():
            for node in await primaries(store.client):
                if (await node.info("persistence")).get("aof_enabled"):
                    await node.execute_command("BGREWRITEAOF")
    except StoreError:
        return False
    return True


@contextmanager
def _listening() -> Iterator[Listener]:
    """A line that says what is being done, where somebody watches."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Listener(waiting=_say_whom_for)
        return
    with console.status("looking for it") as status:
        yield Listener(
            told=lambda what, entries: status.update(f"{what}: {entries:,} entries"),
            waiting=_say_whom_for,
        )


def _say_whom_for(holder: str) -> None:
    click.echo(f"waiting for {holder}, which archives", err=True)


def _tell_meant(meant: Selection, *, as_json: bool) -> None:
    lives = meant.lives.items()
    of_kind = {
        "jobs": [job for job, life in lives if not (life.is_open or life.is_forgotten)],
        "before": [job for job, life in lives if life.is_forgotten],
        "open": [job for job, life in lives if life.is_open],
    }
    if as_json:
        print_json({"dry_run": True, **of_kind})
        return
    for job in of_kind["jobs"]:
        click.echo(job)
    click.echo(
        f"{_jobs(len(of_kind['jobs']))} would be forgotten; {len(of_kind['before']):,} were before, "
        f"{len(of_kind['open']):,} have not ended",
        err=True,
    )


def _tell_done(done: Forgotten) -> None:
    click.echo(
        f"forgot {_jobs(done.jobs)}: content was taken out of {done.entries_in_log:,} entries of the "
        f"log and {done.entries_in_archive:,} of the archive ({done.segments:,} segments)"
    )
    for job in done.open:
        click.echo(f"left: job {job} has not ended; cancel it first, or wait", err=True)
    for what in done.left:
        click.echo(f"left: {what}", err=True)
    if done.jobs:
        click.echo(_ELSEWHERE, err=True)


def _jobs(number: int) -> str:
    return f"{number:,} job{'s' if number != 1 else ''}"
