"""One line in the process's log for every change that it writes to a job.

The names are the guide's: `job_id`, `model`, `queue_size`. What a client sent, or was answered, is in no
line unless LOG_CONTENT is true, and neither is the text of an error: an inference server may quote there
what it was asked.

A line is encoded at once rather than sent through structlog's processors, and written together with others
of the same turn of the event loop: it costs 2 microseconds instead of 40, of the 60 that a job takes. Its
time is that of the event, by Redis's clock.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

import msgspec

from core import events
from core.change import Change
from core.events import JobEvent, LostBecause, Submitted
from core.head import milliseconds_of
from core.log import tag_of
from core.settings import LogFormat
from core.tracing import JOB_TRACEPARENT, trace_id_in

LOGGER: Final = "respool.jobs"
_SIZES_SECONDS: Final = 0.1  # How old the size of a queue may be.
_SIZES_MAX: Final = 1_000
_NEVER: Final = (float("-inf"), 0)
_PATIENCE_SECONDS: Final = 1.0

_WORDS: Final[Mapping[type[JobEvent], str]] = {
    events.Submitted: "job submitted",
    events.Enqueued: "job due",
    events.Claimed: "job claimed",
    events.AttemptFailed: "job retried",
    events.Completed: "job completed",
    events.Failed: "job failed",
    events.CancelRequested: "job cancel requested",
    events.Cancelled: "job cancelled",
    events.Expired: "job expired",
    events.Requeued: "job requeued",
}
_LOST: Final = {
    LostBecause.LEASE_RAN_OUT: "job lease recovered",
    LostBecause.DRAINED: "job given back",
    LostBecause.NEVER_STARTED: "job never started",
}
_OF_OPERATORS: Final = frozenset({events.Failed, events.AttemptFailed, events.AttemptLost})

_encode: Final = msgspec.json.Encoder().encode

Line = dict[str, Any]
Mark = Callable[[Line], object]


class QueueSizes:
    """How many jobs wait in each queue, as the store had it a moment ago."""

    def __init__(self, look: Callable[[Collection[str]], Awaitable[Mapping[str, int]]]) -> None:
        """`look` asks the store; it must not raise, and leaves out what it does not know."""
        self._look = look
        self._sizes: dict[str, tuple[float, int]] = {}  # With when it was looked up.

    def of(self, queue: str) -> int | None:
        """How many wait there; None if that has to be looked up."""
        looked_at, size = self._sizes.get(queue, _NEVER)
        return size if looked_at > asyncio.get_running_loop().time() - _SIZES_SECONDS else None

    async def look(self, queues: Collection[str]) -> None:
        """Look some up."""
        began = asyncio.get_running_loop().time()
        sizes = await self._look(queues)
        if len(self._sizes) > _SIZES_MAX:
            self._sizes.clear()
        self._sizes.update((queue, (began, size)) for queue, size in sizes.items())


class Journal:
    """Writes the lines; those of a queue whose size has to be looked up once that is known."""

    def __init__(
        self,
        write: Callable[[str], None],
        log_format: LogFormat,
        sizes: QueueSizes,
        *,
        only_trouble: bool,
        with_content: bool,
        marks: tuple[Mark, ...] = (),
    ) -> None:
        """`only_trouble` leaves out what is in order; `marks` add to what a line says."""
        self._write = write
        self._render = _as_json if log_format is LogFormat.JSON else _for_a_person
        self._sizes = sizes
        self._only_trouble = only_trouble
        self._with_content = with_content
        self._marks = marks
        self._held: list[Line] = []
        self._looking: asyncio.Task[None] | None = None

    def note(self, change: Change) -> None:
        """Write a line for each event of a change."""
        for event, log_id in zip(change.events, change.log_ids, strict=False):
            is_trouble = type(event) in _OF_OPERATORS
            if is_trouble or not self._only_trouble:
                self._tell(self._line(change, event, log_id, is_trouble))

    def _tell(self, line: Line) -> None:
        size = self._sizes.of(line["queue"])
        if size is not None and not self._held:
            line["queue_size"] = size
            self._write(self._render(line))
            return
        self._held.append(line)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._sizes.look({line["queue"] for line in self._held})
        except TimeoutError:
            pass  # A line without a size is better than none.
        finally:
            held, self._held, self._looking = self._held, [], None
            for line in held:
                line["queue_size"] = self._sizes.of(line["queue"])
                self._write(self._render(line))

    def _line(self, change: Change, event: JobEvent, log_id: str, is_trouble: bool) -> Line:
        job = change.after
        line: Line = {
            "event": _LOST[event.why] if isinstance(event, events.AttemptLost) else _words(event),
            "level": "warning" if is_trouble else "info",
            "timestamp": _rfc3339(milliseconds_of(log_id)),
            "logger": LOGGER,
            "job_id": change.job_id,
            "model": job.model,
            "queue": job.queue,
            "queue_size": None,
        }
        _add_particulars(line, event)
        if self._with_content:
            _add_content(line, event)
        traceparent = event.traceparent if isinstance(event, Submitted) else JOB_TRACEPARENT.get()
        if traceparent is not None:
            line["trace_id"] = trace_id_in(traceparent)
        for mark in self._marks:
            mark(line)
        return line


def _words(event: JobEvent) -> str:
    return _WORDS.get(type(event)) or f"job {tag_of(event)}"


def _add_particulars(line: Line, event: JobEvent) -> None:
    """What an operator asks next, and nothing of what was asked of the model."""
    match event:
        case events.Submitted():
            line["tenant"] = event.tenant
        case events.Claimed():
            line |= {"worker": event.worker, "attempt": event.attempt}
        case events.Completed():
            line |= {"attempt": event.attempt, "ran_ms": event.timings.ran_ms}
        case events.AttemptFailed():
            line |= {
                "attempt": event.attempt,
                "error": event.error.kind,
                "delay_ms": event.delay_ms,
            }
        case events.AttemptLost():
            line |= {"worker": event.worker, "why": event.why}
        case events.Failed():
            line |= {"attempts": event.attempts, "error": event.error.kind}
        case events.CancelRequested() | events.Cancelled() | events.Requeued():
            line["by"] = event.by


def _add_content(line: Line, event: JobEvent) -> None:
    """What people have written, and what models have: only where it was asked for."""
    match event:
        case events.Submitted():
            line |= {"request": event.request, "metadata": event.metadata}
        case events.Completed():
            line["result"] = event.result
        case events.AttemptFailed() | events.Failed():
            line["message"] = event.error.message
        case events.CancelRequested() | events.Cancelled():
            line["reason"] = event.reason


def _as_json(line: Line) -> str:
    return _encode(line).decode()


def _for_a_person(line: Line) -> str:
    """As structlog's console has it. Values are JSON, so that nothing in them begins a line."""
    event, level, timestamp, logger = (line.pop(name) for name in _FIRST)
    fields = " ".join(f"{name}={_encode(value).decode()}" for name, value in line.items())
    return f"{timestamp} [{level:<9}] {event:<30} [{logger}] {fields}"


_FIRST: Final = ("event", "level", "timestamp", "logger")
_second: tuple[int, str] = (0, "")  # The last one that was shown: most lines are of the same.


def _rfc3339(at_ms: int) -> str:
    global _second  # noqa: PLW0603 - a cache of one.
    seconds, milliseconds = divmod(at_ms, 1_000)
    if _second[0] != seconds:
        _second = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)))
    return f"{_second[1]}.{milliseconds:03d}Z"
