"""`respool restore`: a backup into an empty store, migrated and verified."""

import sys
from pathlib import Path

import click
from msgspec import Struct, to_builtins

from cli.archive import archive_of
from cli.backup.loading import Restored, load
from cli.backup.shelf import BackupError, backups, check
from cli.backup.source import bar, the_redis
from cli.client import json_option
from cli.process import run_role, settings_of_environment
from cli.replay import print_json, print_report, progress, report_as_json
from core.redis import REPLY_TIMEOUT_SECONDS
from core.settings import Settings
from core.store import EventStore
from migrations.runner import migrate, shard_count
from projections.replay.verify import Report, verify


class Outcome(Struct, frozen=True):
    """What came back, what this release had to add to it, and what verify says of it."""

    backup: Path
    restored: Restored
    migrated: list[str]
    report: Report


@click.command()
@click.argument("backup", type=click.Path(exists=True, path_type=Path))
@click.option("--listen", metavar="ADDRESS", help="Of this machine, which Redis can connect to.")
@json_option
def restore(backup: Path, listen: str | None, as_json: bool) -> None:
    """Bring BACKUP, a file or the newest in a folder, back into an empty Redis; migrate and verify it.

    Into REDIS_URL, on whatever machine that is: it needs appendonly yes, and has to be able to connect to this
    machine, as it takes the backup from us as from its primary. Without REDIS_URL, into RESPOOL_DATA_DIR for
    `respool up`. What is not empty is refused. Exit status 1 if the store is not as its log says.

    \b
    Example: REDIS_URL=redis://store:6379/0 respool restore /backup
    """
    settings = settings_of_environment()
    found: list[Outcome] = []

    async def role() -> None:
        found.append(await bring_back(settings, _one(backup), listen))

    run_role(role)
    [outcome] = found
    if as_json:
        print_json(_as_json(outcome))
    else:
        _print(outcome)
    sys.exit(1 if outcome.report.differences else 0)


async def bring_back(settings: Settings, backup: Path, listen: str | None) -> Outcome:
    """Restore, migrate, verify. Raises BackupError, StoreError, DataDirError, SettingsError."""
    check(backup)
    async with the_redis(settings, may_begin=True) as client:
        with bar("restore") as told:
            restored = await load(client, backup, listen, told)
        archive = archive_of(settings)
        bounds = settings.bounds(REPLY_TIMEOUT_SECONDS)
        steps = await migrate(client, bounds=bounds, archive=archive)
        store = EventStore(client, await shard_count(client), bounds, archive=archive)
        with progress() as tell:
            report, _ = await verify(store, tell)
    return Outcome(backup, restored, [step.done() for step in steps], report)


def _one(path: Path) -> Path:
    """The backup itself. Raises BackupError for a folder without any."""
    if not path.is_dir():
        return path
    found = backups(path)
    if not found:
        raise BackupError(f"{path} has no backup: files that are called respool-TIME.rdb")
    return found[-1].path


def _print(outcome: Outcome) -> None:
    restored = outcome.restored
    click.echo(
        f"restored {outcome.backup} (of incarnation {restored.before}); the store is incarnation "
        f"{restored.incarnation} from now on"
    )
    for step in outcome.migrated:
        click.echo(f"applied: {step}")
    print_report(outcome.report)
    if outcome.report.differences:
        click.echo("`respool replay repair` mends what the log can tell")


def _as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "backup": str(outcome.backup),
        **to_builtins(outcome.restored),
        "migrated": outcome.migrated,
        **report_as_json(outcome.report),
    }
