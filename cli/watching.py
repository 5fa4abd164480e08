"""What a role counts and logs of the changes that it writes to jobs."""

import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from cli.figures import JobFigures
from cli.journal import Journal, Mark, Marks
from cli.logs import write_lines
from cli.telemetry import with_trace
from core.change import Change
from core.errors import StoreError
from core.queues import waiting_in
from core.settings import LogLevel, Settings
from core.store import EventStore

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)


@asynccontextmanager
async def watching(
    store: EventStore, settings: Settings, *marks: Mark
) -> AsyncIterator[JobFigures]:
    """Have what is written through `store` counted, and logged as LOG_LEVEL and LOG_FORMAT say."""
    figures = JobFigures()
    if settings.log_level is LogLevel.ERROR:
        store.on_written = figures.note
        yield figures
        return
    journal = Journal(
        write_lines,
        partial(_waiting, store),
        settings.log_format,
        only_trouble=settings.log_level is LogLevel.WARNING,
        with_content=settings.log_content,
        marks=marks,
    )

    def note(change: Change) -> None:
        figures.note(change)
        journal.note(change)

    store.on_written = note
    try:
        yield figures
    finally:
        await journal.settle()


async def _waiting(store: EventStore, queues: Collection[str]) -> dict[str, int]:
    try:
        return await waiting_in(store, queues)
    except StoreError as error:
        log.debug("lines of jobs go without their queue's size: %s", error)
        return {}


def with_span() -> Marks:
    """Mark a line with the span that it was written in."""
    return with_trace(None, "", {})


def marks_of(tracer: "Tracer | None") -> tuple[Mark, ...]:
    """What else a line of the journal says: the span that it was written in, if there are any."""
    return () if tracer is None else (with_span,)
