"""`respool backup`: a dump of the store, from wherever it is, now or every few hours."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from msgspec import Struct
from redis.asyncio import Redis

from cli.backup.shelf import Backup, BackupError, Shelf, backups
from cli.backup.source import bar, the_redis
from cli.backup.transfer import receive
from cli.client import json_option
from cli.params import DURATION
from cli.process import run_role, settings_of_environment, stop_on_signals
from cli.replay import print_json
from consumers.stop import Stop
from core.errors import StoreError, StoreNotReady
from core.keys import META
from core.redis import answering
from core.settings import Settings

log = logging.getLogger(__name__)

KEPT: Final = 28  # A week, at one every six hours.
_AGAIN_SECONDS_MAX: Final = 300.0


class Made(Struct, frozen=True):
    """What was done, as it is printed."""

    path: str
    bytes: int
    sha256: str
    seconds: float
    removed: list[str]

    def __str__(self) -> str:
        gone = f"; removed {', '.join(self.removed)}" if self.removed else ""
        return f"{self.path}: {self.bytes:,} bytes in {self.seconds:.1f} s{gone}"


@click.command()
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=KEPT,
    show_default=True,
    help="How many stay; older ones are deleted once the new one is there.",
)
@click.option(
    "--every", type=DURATION, help="Go on, with one every 6h, 30m, …, until it is stopped."
)
@json_option
def backup(keep: int, every: int | None, as_json: bool) -> None:
    """Write a dump of the whole store to BACKUP_DIR, while jobs go on.

    At REDIS_URL, on whatever machine that is: it takes no file from there, and the commands SYNC, PSYNC and
    REPLCONF. Without REDIS_URL, of the store of `respool up` on RESPOOL_DATA_DIR, whether or not that runs.
    `sha256sum -c` checks a backup, and `respool restore` brings it back.

    \b
    Example: REDIS_URL=redis://store:6379/0 BACKUP_DIR=/backup respool backup --every 6h --keep 28
    """
    settings = settings_of_environment()

    def say(made: Made) -> None:
        if as_json:
            print_json(made)
        else:
            click.echo(str(made))

    async def role() -> None:
        if every is None:
            say(await back_up(settings, keep))
            return
        stop = Stop()
        stop_on_signals(stop)
        await stop.unless_asked(_for_ever(settings, keep, every / 1_000, say))

    run_role(role)


async def back_up(settings: Settings, keep: int) -> Made:
    """Make one backup, and delete those beyond `keep`. Raises BackupError, StoreError, DataDirError."""
    began = time.monotonic()
    with Shelf.held(settings.backup_dir) as shelf:
        async with the_redis(settings, may_begin=False) as client:
            await _require_a_store(client)
            with bar("backup") as told, shelf.adding() as draft:
                dump = await receive(client, draft.write, told)
        removed = [str(path) for path in shelf.rotate(keep)]
    took = round(time.monotonic() - began, 3)
    return Made(str(draft.path), dump.bytes, draft.sha256, took, removed)


async def _require_a_store(client: Redis) -> None:
    """Raises StoreNotReady for an empty Redis: the newest backup would be of nothing."""
    async with answering():
        if await client.hget(META, "incarnation") is None:
            raise StoreNotReady("there is no store of Respool, so there is nothing to back up")


async def _for_ever(
    settings: Settings, keep: int, every_seconds: float, say: Callable[[Made], None]
) -> None:
    while True:
        await asyncio.sleep(_due_in(settings.backup_dir, every_seconds))
        try:
            say(await back_up(settings, keep))
        except (BackupError, StoreError) as error:
            log.error("no backup was made: %s", error)
            await asyncio.sleep(min(_AGAIN_SECONDS_MAX, every_seconds))


def _due_in(folder: Path, every_seconds: float) -> float:
    """Seconds until the next is due, by the newest that there is: a restart adds none."""
    newest: list[Backup] = backups(folder)[-1:]
    if not newest:
        return 0.0
    age = (datetime.now(UTC) - newest[0].at).total_seconds()
    return max(0.0, every_seconds - max(0.0, age))
