"""Logging: the standard library's loggers, rendered by structlog as JSON lines or for a person."""

import asyncio
import atexit
import logging
import sys
from contextlib import suppress
from typing import Final

import structlog

from core.settings import LogFormat, LogLevel

_QUIET = ("httpx", "httpcore", "uvicorn.access", "asyncio", "urllib3")
_OF_CLIENTS = "uvicorn.error"  # It warns of what clients do wrong, which they are told.


_SOON_SECONDS: Final = 0.02


class Lines:
    """Standard error, to which lines of jobs are written some at a time: each write is a system call."""

    def __init__(self) -> None:
        self._pending: list[str] = []

    def soon(self, line: str) -> None:
        """Write a line within 20 ms, together with those that come meanwhile."""
        if not self._pending:
            asyncio.get_running_loop().call_later(_SOON_SECONDS, self.flush)
        self._pending.append(line)

    def write(self, text: str) -> None:
        """Write now, after what was to be written soon."""
        self.flush()
        sys.stderr.write(text)

    def flush(self) -> None:
        """Write what is left. Where nobody reads any more it is dropped: no job fails of that."""
        lines, self._pending = self._pending, []
        with suppress(OSError, ValueError):
            if lines:
                sys.stderr.write("\n".join(lines) + "\n")
            sys.stderr.flush()


LINES: Final = Lines()
atexit.register(LINES.flush)


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
    handler = logging.StreamHandler(LINES)
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
