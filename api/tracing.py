"""Which trace a request belongs to."""

from typing import Final

from litestar.types import Scope

from core.tracing import valid_traceparent

TRACEPARENT: Final = "traceparent"  # In the state of a request whose span is recorded here.
_HEADER: Final = b"traceparent"


def trace_of(scope: Scope) -> str | None:
    """What a job that the request submits is a part of: its span here, else whatever its caller says."""
    state = scope["state"]
    if TRACEPARENT in state:
        traceparent: str = state[TRACEPARENT]
        return traceparent
    header = header_of(scope, _HEADER)
    return None if header is None else valid_traceparent(header)


def header_of(scope: Scope, wanted: bytes) -> str | None:
    """A header that came exactly once: of several none is to be believed."""
    values = [value for name, value in scope["headers"] if name == wanted]
    return values[0].decode("latin-1") if len(values) == 1 else None
