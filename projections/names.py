"""Names of keys and fields within a view: parts with colons between them, only the last may have some."""

from functools import lru_cache

from core.states import Job

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


def escaped(part: str) -> str:
    """A part that may contain colons, so that it does not."""
    return part.replace("%", "%25").replace(":", "%3A") if ":" in part or "%" in part else part


def unescaped(part: str) -> str:
    """The reverse of `escaped`."""
    return part.replace("%3A", ":").replace("%25", "%")


@lru_cache(maxsize=10_000)
def by_queue(job: Job, what: str) -> str:
    """The field that counts `what` for a job's queue and model."""
    return f"{job.queue}:{what}:{job.model}"


@lru_cache(maxsize=10_000)
def by_tenant(job: Job, what: str) -> str:
    """The field that counts `what` for a job's tenant and model."""
    return f"{escaped(job.tenant)}:{what}:{job.model}"
