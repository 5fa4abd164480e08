"""Which errors are worth another attempt, and when.

Exponential backoff with full jitter: the delay is uniform between nothing and a ceiling that doubles
with every failed attempt, so that jobs which failed together do not come back together. What an
inference server asked for in Retry-After is a lower bound.
"""

from typing import Final

from core.events import ErrorKind

BACKOFF_BASE_MS: Final = 1_000
BACKOFF_CEILING_MS: Final = 60_000
RETRY_AFTER_CEILING_MS: Final = 600_000

# The request itself is at fault, or the server will not have it from us: asking again changes nothing.
_FINAL: Final = frozenset(
    {ErrorKind.BAD_REQUEST, ErrorKind.REJECTED, ErrorKind.POISONED, ErrorKind.WORKER_LOST}
)


def is_worth_retrying(kind: ErrorKind) -> bool:
    """Say whether the same request may succeed later."""
    return kind not in _FINAL


def backoff_ms(attempt: int, jitter: float, retry_after_ms: int | None = None) -> int:
    """Milliseconds from failed attempt number `attempt` (1 is the first) until the next one."""
    ceiling_ms = min(BACKOFF_CEILING_MS, BACKOFF_BASE_MS << min(attempt - 1, 16))
    asked_ms = min(retry_after_ms or 0, RETRY_AFTER_CEILING_MS)
    return asked_ms + int(ceiling_ms * jitter)
