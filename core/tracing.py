"""Which trace a job belongs to, as W3C writes it (https://www.w3.org/TR/trace-context/).

A job keeps the `traceparent` of its submission for good, so whoever works on it later, and in whatever
process, goes on with the same trace. `baggage` is not kept: it is the caller's own data, of any kind,
and would go from here to every inference server and stay in the log.

OpenTelemetry's propagator says what is well-formed. It is imported with the first header that comes: a
process that nobody traces does not wait for it.
"""

from contextvars import ContextVar
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanContext
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

JOB_ID: Final = "respool.job.id"  # The attribute by which a job's spans are found.

_CHARS_MAX: Final = 512  # The propagator would warn in the log of what is longer.

# The trace of whatever this task does without knowing of one.
OWN_TRACE_ID: ContextVar[int | None] = ContextVar("OWN_TRACE_ID", default=None)

# The `traceparent` of the job that this task runs, for its lines in the log.
JOB_TRACEPARENT: ContextVar[str | None] = ContextVar("JOB_TRACEPARENT", default=None)


def valid_traceparent(header: str) -> str | None:
    """A `traceparent` as version 00 has it; None for a malformed one, which is as good as none."""
    carrier: dict[str, str] = {}
    _propagator().inject(carrier, context_of(header))
    return carrier.get("traceparent")


def context_of(traceparent: str | None, tracestate: str | None = None) -> "Context":
    """What a span is started in to be a child of that one; a root's for None, or a malformed one."""
    headers = {"traceparent": traceparent, "tracestate": tracestate}
    return _propagator().extract(
        {name: value for name, value in headers.items() if value and len(value) <= _CHARS_MAX}
    )


def traceparent_of(span: "SpanContext") -> str:
    """How a span is named to whoever works for it."""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def trace_id_in(traceparent: str) -> str:
    """The id of the trace, under which tools show it."""
    return traceparent[3:35]


def trace_id_for(job_id: str) -> int:
    """The trace of a job that came without one: the same for all who work on it."""
    return int.from_bytes(blake2b(job_id.encode(), digest_size=16).digest()) or 1


@cache
def _propagator() -> "TraceContextTextMapPropagator":
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 - with the first header.
        TraceContextTextMapPropagator,
    )

    return TraceContextTextMapPropagator()
