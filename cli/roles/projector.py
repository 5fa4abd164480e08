"""`respool projector`: what keeps the views up with the log."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

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
from core.redis import REPLY_TIMEOUT_SECONDS
from core.settings import Settings
from core.store import EventStore
from projections.archive.archiver import Archiver
from projections.projector import Projector
from projections.runner import BATCH_ENTRIES

log = logging.getLogger(__name__)


@click.command()
def projector() -> None:
    """Keep the views, which lists and queue figures come from, up with the log.

    Any number may run: one works, and the others take over when it does not.

    \b
    Example: REDIS_URL=redis://localhost:6379/0 respool projector
    """
    settings = settings_of_environment()
    redis_url = required_redis_url(settings, "projector")

    async def project() -> None:
        stop = Stop()
        stop_on_signals(stop)
        async with AsyncExitStack() as stack:
            starting = stack.enter_async_context(running_projector(settings, redis_url))
            projecting = await stop.unless_asked(starting)
            if projecting is not None:
                await stop.unless_asked(_ended(projecting))

    run_role(project)


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
