"""Logging: the standard library's loggers, rendered by structlog as JSON lines or for a person."""

import logging
import sys
from contextlib import suppress

import structlog

from core.settings import LogFormat, LogLevel

_QUIET = ("httpx", "httpcore", "uvicorn.access", "asyncio", "urllib3")
_OF_CLIENTS = "uvicorn.error"  # It warns of what clients do wrong, which they are told.


def write_lines(text: str) -> None:
    """Write whole lines to standard error. Where nobody reads any more they are dropped: no job fails of that."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def configure_logging(
    log_format: LogFormat, level: LogLevel, *marking: structlog.typing.Processor
) -> None:
    """Log to standard error, one line a record; `marking` adds to what a line says."""
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,  # The request's id (`api.front`).
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *marking,
    ]
    if log_format is LogFormat.JSON:
        renderers: list[structlog.typing.Processor] = [
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ]
    else:
        renderers = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger(_OF_CLIENTS).setLevel(logging.ERROR)
