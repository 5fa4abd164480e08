"""Names of keys and fields within a view: parts with colons between them, only the last may have some."""

from functools import lru_cache

from projections.rows import JobRow

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


def escaped(part: str) -> str:
    """A part that may contain colons, so that it does not."""
    return part.replace("%", "%25").replace(":", "%3A") if ":" in part or "%" in part else part


def unescaped(part: str) -> str:
    """The reverse of `escaped`."""
    return part.replace("%3A", ":").replace("%25", "%")


def by_queue(row: JobRow, what: str) -> str:
    """The field that counts `what` for a job's queue and model."""
    return _by_queue(row.job.queue, what, row.job.model)


def by_tenant(row: JobRow, what: str) -> str:
    """The field that counts `what` for a job's tenant and model."""
    return _by_tenant(row.job.tenant, what, row.job.model)


@lru_cache(maxsize=65_536)
def _by_queue(queue: str, what: str, model: str) -> str:
    return f"{queue}:{what}:{model}"


@lru_cache(maxsize=65_536)
def _by_tenant(tenant: str, what: str, model: str) -> str:
    return f"{escaped(tenant)}:{what}:{model}"
