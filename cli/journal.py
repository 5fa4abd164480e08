"""One line in the process's log for every change that it writes to a job.

The names are the guide's: `job_id`, `model`, `queue_size`. What a client sent, or was answered, is in no
line unless LOG_CONTENT is true, and neither is the text of an error: an inference server may quote there
what it was asked.

Lines are made and written some at a time, 50 ms after the first of them, past structlog's processors: a job has
two in its worker, and through those each would cost two thirds of what the job itself does.
`benchmarks/watching.py` measures it. A line's time is that of its event, by Redis's clock; its `queue_size` is of when it was written.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from core import events
from core.change import Change
from core.events import JobEvent, LostBecause, Submitted
from core.settings import LogFormat
from core.tracing import JOB_TRACEPARENT, trace_id_in

LOGGER: Final = "respool.jobs"
_SOON_SECONDS: Final = 0.05  # So that lines share a look at the store, and a system call.
_PATIENCE_SECONDS: Final = 1.0

_WORDS: Final[Mapping[type[JobEvent], str]] = {
    events.Submitted: "job submitted",
    events.Enqueued: "job due",
    events.Claimed: "job claimed",
    events.AttemptFailed: "job retried",
    events.AttemptLost: "job lost",  # In which way, `_LOST` says.
    events.Completed: "job completed",
    events.Failed: "job failed",
    events.CancelRequested: "job cancel requested",
    events.Cancelled: "job cancelled",
    events.Expired: "job expired",
    events.Requeued: "job requeued",
    events.Redacted: "job forgotten",
}
_LOST: Final = {
    LostBecause.LEASE_RAN_OUT: "job lease recovered",
    LostBecause.DRAINED: "job given back",
    LostBecause.NEVER_STARTED: "job never started",
}
_OF_OPERATORS: Final = frozenset({events.Failed, events.AttemptFailed, events.AttemptLost})

_encoder: Final = msgspec.json.Encoder()


class Line(Struct, omit_defaults=True, gc=False):
    """What one line says; what is None is left out. The collector has no need to look at it: it is in no cycle."""

    event: str
    level: str
    timestamp: str
    logger: str
    job_id: str
    model: str
    queue: str
    queue_size: int | None = None
    tenant: str | None = None
    worker: str | None = None
    attempt: int | None = None
    attempts: int | None = None
    ran_ms: int | None = None
    delay_ms: int | None = None
    error: str | None = None  # Its kind.
    why: str | None = None
    by: str | None = None
    request: Raw | None = None  # From here on only with LOG_CONTENT.
    result: Raw | None = None
    metadata: dict[str, str] | None = None
    message: str | None = None
    reason: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None


Marks = Mapping[str, str]  # What else a line says, by the names of its fields.
Mark = Callable[[], Marks]


class Noted(Struct, frozen=True, gc=False):
    """A change, and what only its moment knows."""

    change: Change
    traceparent: str | None  # Of the job that the task runs.
    marks: tuple[Marks, ...]


class Journal:
    """Writes the lines of one store's changes."""

    def __init__(
        self,
        write: Callable[[str], None],
        sizes: Callable[[Collection[str]], Awaitable[Mapping[str, int]]],
        log_format: LogFormat,
        *,
        only_trouble: bool,
        with_content: bool,
        marks: tuple[Mark, ...] = (),
    ) -> None:
        """`sizes` says how many jobs wait in some queues. It must not raise: what it leaves out is not said.

        `only_trouble` leaves out what is in order; `marks` are asked at the time of the change.
        """
        self._write = write
        self._sizes = sizes
        self._render = _as_json if log_format is LogFormat.JSON else _for_a_person
        self._only_trouble = only_trouble
        self._with_content = with_content
        self._marks = marks
        self._noted: list[Noted] = []  # What is to be written soon.
        self._telling: asyncio.Task[None] | None = None

    def note(self, change: Change) -> None:
        """Write a line for each event of a change, soon."""
        if self._only_trouble and not any(type(event) in _OF_OPERATORS for event in change.events):
            return
        if not self._noted:
            asyncio.get_running_loop().call_later(_SOON_SECONDS, self._tell)
        marks = tuple([mark() for mark in self._marks]) if self._marks else ()
        self._noted.append(Noted(change, JOB_TRACEPARENT.get(), marks))

    def _tell(self) -> None:
        self._telling = asyncio.get_running_loop().create_task(self.settle())

    async def settle(self) -> None:
        """Write what there is, with how many jobs wait in each queue by now."""
        if not self._noted:
            return
        sizes: Mapping[str, int] = {}
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                sizes = await self._sizes({noted.change.after.queue for noted in self._noted})
        except TimeoutError:
            pass  # A line without a size is better than none.
        finally:
            self.flush(sizes)

    def flush(self, sizes: Mapping[str, int] = MappingProxyType({})) -> None:
        """Write what there is now."""
        all_noted, self._noted = self._noted, []
        lines = [
            self._line(noted, event, noted.change.log_ids[number], sizes)
            for noted in all_noted
            for number, event in enumerate(noted.change.events)
            if not self._only_trouble or type(event) in _OF_OPERATORS
        ]
        if lines:
            self._write(self._render(lines))

    def _line(self, noted: Noted, event: JobEvent, log_id: str, sizes: Mapping[str, int]) -> Line:
        job, kind = noted.change.after, type(event)
        line = Line(
            _WORDS[kind],
            "warning" if kind in _OF_OPERATORS else "info",
            _rfc3339(log_id.partition("-")[0]),
            LOGGER,
            noted.change.job_id,
            job.model,
            job.queue,
            sizes.get(job.queue),
        )
        if (add := _PARTICULARS.get(kind)) is not None:
            add(line, event)
        if self._with_content:
            _add_content(line, event)
        traceparent = event.traceparent if type(event) is Submitted else noted.traceparent
        if traceparent is not None:
            line.trace_id = trace_id_in(traceparent)
        for marks in noted.marks:
            for name, value in marks.items():
                setattr(line, name, value)
        return line


def _about_submitted(line: Line, event: events.Submitted) -> None:
    line.tenant = event.tenant


def _about_claimed(line: Line, event: events.Claimed) -> None:
    line.worker, line.attempt = event.worker, event.attempt


def _about_completed(line: Line, event: events.Completed) -> None:
    line.attempt, line.ran_ms = event.attempt, event.timings.ran_ms


def _about_retried(line: Line, event: events.AttemptFailed) -> None:
    line.attempt, line.error, line.delay_ms = event.attempt, event.error.kind, event.delay_ms


def _about_lost(line: Line, event: events.AttemptLost) -> None:
    line.event, line.worker, line.why = _LOST[event.why], event.worker, event.why


def _about_failed(line: Line, event: events.Failed) -> None:
    line.attempts, line.error = event.attempts, event.error.kind


def _about_whoever_asked(
    line: Line,
    event: events.CancelRequested | events.Cancelled | events.Requeued | events.Redacted,
) -> None:
    line.by = event.by


# What an operator asks next, and nothing of what was asked of the model. By type, as it is for each line.
_PARTICULARS: Final[Mapping[type[JobEvent], Callable[[Line, Any], None]]] = {
    events.Submitted: _about_submitted,
    events.Claimed: _about_claimed,
    events.Completed: _about_completed,
    events.AttemptFailed: _about_retried,
    events.AttemptLost: _about_lost,
    events.Failed: _about_failed,
    events.CancelRequested: _about_whoever_asked,
    events.Cancelled: _about_whoever_asked,
    events.Requeued: _about_whoever_asked,
    events.Redacted: _about_whoever_asked,
}


def _add_content(line: Line, event: JobEvent) -> None:
    """What people have written, and what models have: only where it was asked for."""
    match event:
        case events.Submitted():
            line.request, line.metadata = event.request, event.metadata
        case events.Completed():
            line.result = event.result
        case events.AttemptFailed() | events.Failed():
            line.message = event.error.message
        case events.CancelRequested() | events.Cancelled() | events.Redacted():
            line.reason = event.reason


def _as_json(lines: list[Line]) -> str:
    return _encoder.encode_lines(lines).decode()


def _for_a_person(lines: list[Line]) -> str:
    return "".join(map(_shown, lines))


def _shown(line: Line) -> str:
    """As structlog's console has it. Values are JSON, so that nothing in them begins a line."""
    said = [name for name in line.__struct_fields__ if name not in _FIRST]
    values = ((name, getattr(line, name)) for name in said)
    fields = " ".join(
        f"{name}={_encoder.encode(value).decode()}" for name, value in values if value is not None
    )
    return f"{line.timestamp} [{line.level:<9}] {line.event:<30} [{line.logger}] {fields}\n"


_FIRST: Final = ("event", "level", "timestamp", "logger")


@lru_cache(maxsize=16)  # At any load that matters, many lines are of one millisecond.
def _rfc3339(milliseconds: str) -> str:
    """A time in RFC 3339, from milliseconds since 1970 as a log entry's id has them."""
    seconds, fraction = divmod(int(milliseconds), 1_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:03d}Z"
