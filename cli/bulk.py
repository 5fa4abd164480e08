"""`respool cancel` and `requeue`: one job, or all that a filter means."""

import json
import sys
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from cli.client import call, job_path, json_option, url_option
from cli.jobs import print_job
from cli.lists import filter_options


def _bulk_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Only say which jobs are meant."),
        click.option("--all", "all_", is_flag=True, help="Without any filter: every such job."),
    ):
        command = option(command)
    return filter_options(command)


@click.command()
@click.argument("job_id", required=False)
@_bulk_options
@json_option
@url_option
def cancel(job_id: str | None, as_json: bool, url: str, **options: Any) -> None:
    """Cancel a job, or all that have not ended and match; one that runs is stopped.

    \b
    Example: respool cancel 06bq3w8m5t1v0zyh200
             respool cancel --queue batch --status queued --dry-run
    """
    _one_or_many("cancel", job_id, url, options, as_json=as_json)


@click.command()
@click.argument("job_id", required=False)
@_bulk_options
@json_option
@url_option
def requeue(job_id: str | None, as_json: bool, url: str, **options: Any) -> None:
    """Give a failed, cancelled or expired job another life, or all that match.

    \b
    Example: respool requeue 06bq3w8m5t1v0zyh200
             respool requeue --status failed --created-after 2026-11-25T14:00:00Z
    """
    _one_or_many("requeue", job_id, url, options, as_json=as_json)


def _one_or_many(
    what: str, job_id: str | None, url: str, options: dict[str, Any], *, as_json: bool
) -> None:
    yes, dry_run, all_ = (options.pop(name) for name in ("yes", "dry_run", "all_"))
    marks = {name: value for name, value in options.items() if value is not None}
    if job_id is not None:
        if marks or all_:
            raise click.UsageError("give either a job's id or a filter")
        print_job(call("POST", url, f"{job_path(job_id)}/{what}").json(), as_json=as_json)
        return
    if not marks and not all_:
        raise click.UsageError("give a job's id, a filter such as --status, or --all")
    asked = marks | {"all": all_}
    meant = _pages(what, url, asked | {"dry_run": True}, "looking")
    if dry_run:
        _tell(meant, as_json=as_json, words=f"{meant['matched']} jobs would be meant ({what})")
        return
    if not yes and meant["matched"]:
        click.confirm(f"{what} {meant['matched']} jobs?", abort=True, err=True)
    done = _pages(what, url, asked, what, meant["matched"])
    words = f"{what}: {done['done']} jobs, {len(done['refused'])} refused"
    _tell(done, as_json=as_json, words=words)
    if done["refused"]:
        sys.exit(1)


def _pages(
    what: str, url: str, asked: dict[str, Any], doing: str, total: int | None = None
) -> dict[str, Any]:
    """All pages of a call, added up."""
    sums: dict[str, Any] = {"matched": 0, "done": 0, "refused": [], "job_ids": []}
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(doing, total=total)
        cursor = None
        while True:
            page = call("POST", url, f"/v1/jobs/{what}", json=asked | {"cursor": cursor}).json()
            for name in sums:
                sums[name] += page[name]
            progress.update(task, advance=page["matched"])
            cursor = page["cursor"]
            if cursor is None:
                return sums | {"dry_run": page["dry_run"]}


def _tell(done: dict[str, Any], *, as_json: bool, words: str) -> None:
    if as_json:
        click.echo(json.dumps(done))
        return
    if done["dry_run"]:
        for job_id in done["job_ids"]:
            click.echo(job_id)
    for refused in done["refused"]:
        click.echo(f"{refused['job_id']}: {refused['why']}", err=True)
    click.echo(words, err=True)
