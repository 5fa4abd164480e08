"""`respool migrate`: what a store lacks of this release, applied; or a migration undone."""

import logging
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

import click
import msgspec
from redis.asyncio import Redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.archive import archive_of
from cli.client import json_option
from cli.opening import without_password
from cli.process import required_redis_url, run_role, settings_of_environment, stop_on_signals
from consumers.stop import Stop
from core.archive import Archive
from core.errors import StoreError
from core.records import Bounds
from core.redis import REPLY_TIMEOUT_SECONDS, connect
from core.store import EventStore
from migrations import runner
from migrations.plan import Step, applied, in_words, plan, shards_of
from migrations.rollback import plan_rollback, roll_back
from migrations.runner import Begun, Done, Event, Waiting
from projections import building
from projections.building import clock_ms
from projections.generations import Role, all_of, moved_ms
from projections.projector import ABANDONED_MS
from projections.registry import fingerprint

log = logging.getLogger(__name__)

BAR_AFTER_SECONDS: Final = 2.0
SAY_EVERY_SECONDS: Final = 10.0


class Asked(msgspec.Struct, frozen=True):
    """What the command line says."""

    plan_only: bool
    to: int | None
    shards: int
    as_json: bool
    park: bool


@click.command()
@click.option("--plan", "plan_only", is_flag=True, help="Only say what would be done.")
@click.option("--to", type=click.IntRange(min=0), help="Undo what comes after this migration.")
@click.option("--shards", default=1, show_default=True, help="For a new store: how many shards.")
@click.option("--park", is_flag=True, help="Leave out of the views what cannot be folded.")
@json_option
def migrate(plan_only: bool, to: int | None, shards: int, park: bool, as_json: bool) -> None:
    """Apply to the store at REDIS_URL what this release needs of it.

    Jobs and older releases go on meanwhile. Stopped at any moment, it is run again and goes on where it
    was; of several at the same time one works, and the others wait for it. --to takes the store back, so
    that an older release starts on it again.

    \b
    Example: REDIS_URL=redis://localhost:6379/0 respool migrate --plan
             REDIS_URL=redis://localhost:6379/0 respool migrate --to 1
    """
    settings = settings_of_environment()
    redis_url = required_redis_url(settings, "migrate")
    asked = Asked(plan_only, to, shards, as_json, park)

    async def apply() -> None:
        stop = Stop()
        stop_on_signals(stop)
        client = connect(redis_url)
        try:
            bounds = settings.bounds(REPLY_TIMEOUT_SECONDS)
            migrating = migrate_as_asked(client, asked, bounds, archive_of(settings))
            if await stop.unless_asked(migrating) is None:
                raise StoreError("stopped; run it again, and it goes on where it was")
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--shards") from error
        except StoreError as error:
            raise type(error)(f"{error} (REDIS_URL is {without_password(redis_url)})") from error
        finally:
            await client.aclose()

    run_role(apply)


async def migrate_as_asked(
    client: Redis, asked: Asked, bounds: Bounds, archive: Archive | None = None
) -> int:
    """Plan or apply, up or down, and print it; how many steps. Raises StoreError, ValueError for `shards`."""
    with Telling(asked) as told:
        match asked:
            case Asked(plan_only=True, to=None):
                steps, done = await plan(client), "to apply"
            case Asked(to=None, shards=shards):
                steps = await runner.migrate(
                    client,
                    shards,
                    told=told,
                    bounds=bounds,
                    strict=not asked.park,
                    archive=archive,
                )
                done = "applied"
            case Asked(plan_only=True, to=int(to)):
                steps, done = await plan_rollback(client, to), "to undo"
            case Asked(to=to):
                assert to is not None
                steps, done = await roll_back(client, to, told=told), "undone"
    others = await _others(client)
    if asked.as_json:
        _print_json(done, steps, await applied(client), others)
        return len(steps)
    if asked.plan_only:
        for step in steps:
            click.echo(f"{done}: {step}")
    if not steps:
        click.echo("nothing to undo" if asked.to is not None else "nothing to apply")
    elif asked.to is not None and not asked.plan_only:
        click.echo(
            f"the store is at migration {asked.to}: a release that knows no later one starts on it again"
        )
    for other in others:
        click.echo(_said(other))
    return len(steps)


class Telling:
    """Says how it goes: each step as it is done, and a bar for what takes long."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._bar: Progress | None = None
        self._began = self._said_at = time.monotonic()
        self._first = 0

    def __enter__(self) -> "Telling":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def __call__(self, event: Event) -> None:
        match event:
            case Waiting(holder):
                click.echo(f"waiting for {holder}, which migrates the store", err=True)
            case Begun(step):
                self._began = self._said_at = time.monotonic()
                self._first = (step.of or 0) - (step.entries or 0)
                if step.entries and not self._asked.as_json:
                    click.echo(f"building {step}", err=True)
            case building.Progress(entries, of):
                self._progress(entries, of)
            case Done(step, seconds):
                self._end()
                if not self._asked.as_json:
                    click.echo(f"{self._verb()}: {step.done()}{_took(seconds)}")

    def _verb(self) -> str:
        return "applied" if self._asked.to is None else "undone"

    def _progress(self, entries: int, of: int) -> None:
        now = time.monotonic()
        if now - self._began < BAR_AFTER_SECONDS:
            return
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = _bar()
                self._bar.add_task("folding", completed=entries, total=of)
                self._bar.start()
            [task] = self._bar.task_ids
            self._bar.update(task, completed=entries, total=of)
        elif now - self._said_at >= SAY_EVERY_SECONDS:
            self._said_at = now
            rate = (entries - self._first) / (now - self._began)
            left = f", about {in_words((of - entries) / rate)} left" if rate > 0 else ""
            log.info("views: %d of %d log entries are folded%s", entries, of, left)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("entries,"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(stderr=True),
        transient=True,
    )


def _took(seconds: float) -> str:
    return f" ({in_words(seconds)})" if seconds >= 1 else ""


async def _others(client: Redis) -> list[dict[str, Any]]:
    """The generations of views that are not this release's, or not in use any more."""
    if not await applied(client):
        return []
    store = EventStore(client, await shards_of(client), Bounds())
    now_ms = await clock_ms(store)
    return [
        {
            "generation": one.number,
            "views": one.fingerprint,
            "role": role.value,
            "silent_seconds": max(0, (now_ms - await moved_ms(store, one)) // 1_000),
        }
        for one, role in (await all_of(store)).items()
        if (one.fingerprint, role) != (fingerprint(), Role.SERVING)
    ]


def _said(other: dict[str, Any]) -> str:
    what = {
        Role.SERVING: "serves another release",
        Role.BUILDING: "was being built",
        Role.REPLACED: "was replaced",
    }[Role(other["role"])]
    return (
        f"still there: views of generation {other['generation']} ({other['views']}): it {what}, was moved "
        f"{in_words(other['silent_seconds'])} ago, and is dropped by a projector once nothing has moved it for "
        f"{in_words(ABANDONED_MS / 1_000)}"
    )


def _print_json(
    done: str, steps: Sequence[Step], migration: int, others: Sequence[dict[str, Any]]
) -> None:
    said = {
        done.replace(" ", "_"): [msgspec.to_builtins(step) for step in steps],
        "migration": migration,
        "other_views": list(others),
    }
    click.echo(msgspec.json.format(msgspec.json.encode(said)).decode())
