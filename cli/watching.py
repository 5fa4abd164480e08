"""What a role counts and logs of the changes that it writes to jobs."""

import logging
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from structlog.contextvars import get_contextvars

from cli.figures import JobFigures
from cli.journal import Journal, Mark, QueueSizes
from cli.logs import LINES
from cli.telemetry import with_trace
from core.change import Change
from core.errors import StoreError
from core.queues import waiting_in
from core.settings import LogLevel, Settings
from core.store import EventStore

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)

_TROUBLE_ONLY = frozenset({LogLevel.WARNING, LogLevel.ERROR})


def watch(store: EventStore, settings: Settings, *marks: Mark) -> JobFigures:
    """Have what is written through `store` counted, and logged as LOG_LEVEL and LOG_FORMAT say."""
    figures = JobFigures()
    if settings.log_level is LogLevel.ERROR:
        store.on_written = figures.note
        return figures
    journal = Journal(
        LINES.soon,
        settings.log_format,
        QueueSizes(partial(_waiting, store)),
        only_trouble=settings.log_level in _TROUBLE_ONLY,
        with_content=settings.log_content,
        marks=marks,
    )

    def note(change: Change) -> None:
        figures.note(change)
        journal.note(change)

    store.on_written = note
    return figures


async def _waiting(store: EventStore, queues: Collection[str]) -> dict[str, int]:
    try:
        return await waiting_in(store, queues)
    except StoreError as error:
        log.debug("lines of jobs go without their queue's size: %s", error)
        return {}


def with_request(line: dict[str, Any]) -> None:
    """Mark a line with the id of the request that it comes of."""
    line.update(get_contextvars())


def with_span(line: dict[str, Any]) -> None:
    """Mark a line with the span that it was written in."""
    with_trace(None, "", line)


def marks_of(tracer: "Tracer | None") -> tuple[Mark, ...]:
    """What else a line of the journal says: the span that it was written in, if there are any."""
    return () if tracer is None else (with_span,)
