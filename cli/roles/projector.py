"""`respool projector`: what keeps the views up with the log."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import click

from cli.archive import archive_of
from cli.opening import open_store
from cli.process import (
    process_name,
    required_redis_url,
    run_role,
    settings_of_environment,
    stop_on_signals,
)
from consumers.stop import Stop
from core.errors import StoreError, StoreNotReady
from core.records import Bounds
from core.redis import REPLY_TIMEOUT_SECONDS, connect
from core.settings import Settings
from core.store import EventStore
from migrations.runner import shard_count
from projections.archive.archiver import Archiver
from projections.projector import Projector
from projections.reading.cluster import lag_entries_of
from projections.runner import BATCH_ENTRIES

log = logging.getLogger(__name__)

# What the alert ProjectionLag takes for too much; a full load keeps it below 2,000.
_BEHIND_ENTRIES_MAX: Final = 10_000


@click.command()
@click.option(
    "--check",
    is_flag=True,
    help="Only say whether the views keep up; exit status 1 if they do not.",
)
def projector(check: bool) -> None:
    """Keep the views, which lists and queue figures come from, up with the log.

    Any number may run: one works, and the others take over when it does not. --check is for whoever
    watches over them, such as a container's health check.

    \b
    Example: REDIS_URL=redis://localhost:6379/0 respool projector
             REDIS_URL=redis://localhost:6379/0 respool projector --check
    """
    settings = settings_of_environment()
    redis_url = required_redis_url(settings, "projector")
    if check:
        run_role(lambda: _check(redis_url))
        return

    async def project() -> None:
        stop = Stop()
        stop_on_signals(stop)
        async with AsyncExitStack() as stack:
            starting = stack.enter_async_context(running_projector(settings, redis_url))
            projecting = await stop.unless_asked(starting)
            if projecting is not None:
                await stop.unless_asked(_ended(projecting))

    run_role(project)


async def _check(redis_url: str) -> None:
    """Say how far the views are behind. Raises StoreError if that is too far, or nobody knows."""
    client = connect(redis_url)
    try:
        store = EventStore(client, await shard_count(client), Bounds())
        behind = await lag_entries_of(store)
    finally:
        await client.aclose()
    if behind is None:
        raise StoreNotReady("no view of this release serves: run `respool migrate`")
    if behind > _BEHIND_ENTRIES_MAX:
        raise StoreError(f"the views are {behind:,} events behind; a projector's log may say why")
    click.echo(f"the views are {behind:,} events behind")


async def _ended(task: asyncio.Task[None]) -> None:
    await task


@asynccontextmanager
async def running_projector(
    settings: Settings, redis_url: str, batch_entries: int = BATCH_ENTRIES
) -> AsyncIterator[asyncio.Task[None]]:
    """What keeps the views up with the log until the block ends; done only if it failed."""
    async with open_store(settings, redis_url, REPLY_TIMEOUT_SECONDS) as store:
        projecting = asyncio.create_task(Projector(store, batch_entries).run())
        archiving = _archiving(settings, store)
        projecting.add_done_callback(_tell_failure)
        try:
            yield projecting
        finally:
            running = [task for task in (projecting, archiving) if task is not None]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


def _archiving(settings: Settings, store: EventStore) -> asyncio.Task[None] | None:
    """What archives the log, if there is an archive. A task of its own: views go on if it fails."""
    archive = archive_of(settings)
    if archive is None:
        return None
    archiving = asyncio.create_task(Archiver(store, archive, process_name()).run())
    archiving.add_done_callback(_tell_no_archive)
    return archiving


def _tell_no_archive(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("the log is not archived and grows: the archiver ended", exc_info=error)


def _tell_failure(task: asyncio.Task[None]) -> None:
    """Say it at once when a projector, which should run for ever, has ended with an error."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("the views stand still: the projector ended", exc_info=error)
