"""`respool jobs`, `queues`, `workers` and `usage`: the views, as tables."""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.client import ClientError, call, json_option, url_option
from cli.tables import add_row, console, new_table

_EVERY_SECONDS: Final = 1.0
_GIB: Final = 2**30

watch_option = click.option("--watch", is_flag=True, help="Show it anew each second, until Ctrl-C.")


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which jobs are meant."""
    for option in (
        click.option("--created-before", metavar="TIME"),
        click.option("--created-after", metavar="TIME", help="Such as 2026-11-25T14:03:00Z."),
        click.option("--tenant"),
        click.option("--model"),
        click.option("--queue"),
        click.option("--status", help="Several with commas between them: failed,expired"),
    ):
        command = option(command)
    return command


@click.command()
@filter_options
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@click.option("--cursor", help="Go on after the last list.")
@watch_option
@json_option
@url_option
def jobs(url: str, as_json: bool, watch: bool, **parameters: Any) -> None:
    """List jobs, the newest first.

    \b
    Example: respool jobs --status failed,expired --queue default
             respool jobs --status running --watch
    """
    _show(url, "/v1/jobs", parameters, _jobs, as_json=as_json, watch=watch)


@click.command()
@watch_option
@json_option
@url_option
def queues(url: str, as_json: bool, watch: bool) -> None:
    """Show how full each queue is, how fast it moves, and how long its jobs wait and run.

    \b
    Example: respool queues --watch
    """
    _show(url, "/v1/queues", {}, _queues, as_json=as_json, watch=watch)


@click.command()
@watch_option
@json_option
@url_option
def workers(url: str, as_json: bool, watch: bool) -> None:
    """Show the workers, what they run, and what they did in the last day.

    \b
    Example: respool workers --watch
    """
    _show(url, "/v1/workers", {}, _workers, as_json=as_json, watch=watch)


@click.command()
@click.option("--tenant")
@click.option("--model")
@click.option("--from", metavar="DAY", help="Such as 2026-11-01; default: 30 days.")
@click.option("--to", metavar="DAY")
@json_option
@url_option
def usage(url: str, as_json: bool, **parameters: Any) -> None:
    """Show requests and tokens by tenant, model and day.

    \b
    Example: respool usage --from 2026-11-01 --model llama3.2
    """
    _show(url, "/v1/usage", parameters, _usage, as_json=as_json, watch=False)


def _show(
    url: str,
    path: str,
    parameters: dict[str, Any],
    tables: Callable[[dict[str, Any]], Table],
    *,
    as_json: bool,
    watch: bool,
) -> None:
    given = {name: value for name, value in parameters.items() if value is not None}

    def ask() -> dict[str, Any]:
        answer: dict[str, Any] = call("GET", url, path, params=given).json()
        return answer

    if watch:
        _watch(ask, tables, as_json=as_json)
    elif as_json:
        click.echo(json.dumps(ask()))
    else:
        answer = ask()
        console().print(_shown(answer, tables))
        if answer.get("cursor"):
            click.echo(f"more: --cursor {answer['cursor']}", err=True)


def _watch(
    ask: Callable[[], dict[str, Any]],
    tables: Callable[[dict[str, Any]], Table],
    *,
    as_json: bool,
) -> None:
    """Show it each second; without a terminal one after the other. An API that is away is waited for."""
    if as_json or not sys.stdout.isatty():
        while True:
            answer = ask()
            if as_json:
                click.echo(json.dumps(answer))
            else:
                console().print(_shown(answer, tables))
            time.sleep(_EVERY_SECONDS)
    with Live(_shown(ask(), tables), auto_refresh=False, screen=False) as live:
        while True:
            time.sleep(_EVERY_SECONDS)
            try:
                live.update(_shown(ask(), tables), refresh=True)
            except ClientError as error:
                live.update(Text(str(error), style="red"), refresh=True)


def _shown(answer: dict[str, Any], tables: Callable[[dict[str, Any]], Table]) -> Group:
    notes = [Text(answer["note"], style="red")] if "note" in answer else []
    return Group(tables(answer), *notes)


def _jobs(answer: dict[str, Any]) -> Table:
    table = new_table("job", "status", "queue", "model", "tenant", "#age", "attempt", "what")
    for job in answer["jobs"]:
        error = job["error"] or {}
        what = job["worker"] or error.get("message") or ""
        attempt = f"{job['attempt']}/{job['max_attempts']}"
        marks = (job["queue"], job["model"], job["tenant"])
        add_row(table, job["id"], job["status"], *marks, _age(job["created_at"]), attempt, what)
    return table


def _queues(answer: dict[str, Any]) -> Table:
    table = new_table(
        *("queue", "#waiting", "#high", "#normal", "#low", "#running", "#scheduled", "#oldest"),
        *("#in/min", "#out/min", "#wait p50", "#p99", "#run p50", "#p99"),
    )
    for queue in answer["queues"]:
        by = queue["waiting_by_priority"]
        wait, run = queue["wait_seconds"], queue["run_seconds"]
        add_row(
            table,
            queue["name"] + (" (paused)" if queue["paused"] else ""),
            queue["waiting"],
            *(by.get(name, 0) for name in ("high", "normal", "low")),
            queue["running"],
            queue["scheduled"],
            _seconds(queue["oldest_waiting_seconds"]),
            f"{queue['arrived_per_minute']:.1f}",
            f"{queue['finished_per_minute']:.1f}",
            *(_seconds(wait[name]) for name in ("p50", "p99")),
            *(_seconds(run[name]) for name in ("p50", "p99")),
        )
    return table


def _workers(answer: dict[str, Any]) -> Table:
    table = new_table("worker", "status", "#running", "models", "queues", "#up", "done", "gpus")
    for worker in answer["workers"]:
        is_silent = worker["status"] in {"started", "draining"} and not worker["alive"]
        done = ", ".join(f"{count} {what}" for what, count in sorted(worker["done"].items()))
        add_row(
            table,
            worker["name"],
            worker["status"] + (" (silent)" if is_silent else ""),
            f"{len(worker['running'])}/{worker['capacity']}",
            ", ".join(worker["models"]),
            ", ".join(worker["queues"]) or "all",
            _age(worker["started_at"]),
            done,
            ", ".join(_gpu(gpu) for gpu in worker["gpus"]),
        )
    return table


def _gpu(gpu: dict[str, Any]) -> str:
    """A device's name, and how full it is, if that is known."""
    used, total = gpu["used_bytes"], gpu["memory_bytes"]
    if used is None:
        return str(gpu["name"])
    return f"{gpu['name']} {used / _GIB:.1f}/{total / _GIB:.1f} GiB"


def _usage(answer: dict[str, Any]) -> Table:
    counts = ("requests", "completed", "failed", "prompt_tokens", "completion_tokens")
    table = new_table("day", "tenant", "model", *(f"#{name.replace('_', ' ')}" for name in counts))
    for one in answer["usage"]:
        numbers = (f"{one[name]:,}" for name in counts)
        add_row(table, one["day"], one["tenant"], one["model"], *numbers)
    return table


def _age(at: str) -> str:
    return _seconds((datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())


def _seconds(seconds: float | None) -> str:
    """A duration in the two largest units that it has."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{max(0.0, seconds):.2f}s"
    whole = int(seconds)
    for size, unit, part_size, part in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // part_size}{part}"
    return f"{whole}s"
