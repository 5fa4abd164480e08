"""Headers that tell a caller what is left to it, when to come again, and where its job stands in line."""

from math import ceil

from api.schemas import JobView
from core.rates import REQUESTS, TOKENS, Level, Levels

_RETRY_MAX_MS = 60_000  # OpenAI's clients obey no more.


def rate_headers(left: Levels) -> dict[str, str]:
    """OpenAI's `x-ratelimit-*`, as far as the API key is held to any limit."""
    headers: dict[str, str] = {}
    for what, level in ((REQUESTS, left.requests), (TOKENS, left.tokens)):
        if level is not None:
            headers |= _of_level(what, level)
    return headers


def _of_level(what: str, level: Level) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{what}": str(level.limit),
        f"x-ratelimit-remaining-{what}": str(level.remaining),
        f"x-ratelimit-reset-{what}": duration(level.lacks_ms),
    }


def duration(milliseconds: float) -> str:
    """As OpenAI writes how long it takes until all is left again: `120ms`, `8.64s`, `6m0s`, `1h0m0s`."""
    whole_ms = ceil(milliseconds)
    if 0 < whole_ms < 1_000:
        return f"{whole_ms}ms"
    minutes, seconds_ms = divmod(whole_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{seconds_ms / 1_000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def retry_headers(wait_ms: float) -> dict[str, str]:
    """When to come again, at most in a minute: in whole seconds, and as exactly as OpenAI's clients take it."""
    in_ms = min(max(1, ceil(wait_ms)), _RETRY_MAX_MS)
    return {"Retry-After": str(ceil(in_ms / 1_000)), "retry-after-ms": str(in_ms)}


def place_headers(job: JobView) -> dict[str, str]:
    """Where a job that waits stands in line, as far as that is known."""
    headers = {}
    if job.position is not None:
        headers["x-queue-position"] = str(job.position)
    if job.eta_seconds is not None:
        headers["x-queue-eta-seconds"] = f"{job.eta_seconds:g}"
    return headers
