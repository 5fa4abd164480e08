"""The index of jobs: newest first, by status, queue, tenant and model, in any combination.

Every job stands in one cell, the sorted set of those that have all four in common. A list merges the
cells that its filters match, so it reads what it shows and no more. And every job stands in the set of
all jobs, where it stays as long as it has a row: a list of any jobs does not have to look at every cell.
"""

from functools import lru_cache

from msgspec import Struct

from core.states import Job, status_of
from projections.names import escaped, unescaped
from projections.projection import Place, Projection
from projections.rows import JobRow, Row

ALL = "all"
CELL = "cell:"
ENDED = "ended"  # By the time of their ending: what is to be forgotten next.
TIME_DIGITS = 13


class Cell(Struct, frozen=True):
    """Jobs that have all this in common."""

    status: str
    queue: str
    tenant: str
    model: str


@lru_cache(maxsize=10_000)
def cell_key(job: Job) -> str:
    """The name of a job's cell."""
    return f"{CELL}{status_of(job)}:{job.queue}:{escaped(job.tenant)}:{job.model}"


def cell_of(key: str) -> Cell:
    """The reverse of `cell_key`."""
    status, queue, tenant, model = key.removeprefix(CELL).split(":", 3)
    return Cell(status, queue, unescaped(tenant), model)


def member_of(created_ms: int, job_id: str) -> str:
    """A job's place among others: all have the same score, so that they sort by time as text."""
    return f"{created_ms:0{TIME_DIGITS}d}{job_id}"


def job_in(member: str) -> str:
    """The job of a member."""
    return member[TIME_DIGITS:]


def _places(row: Row) -> tuple[Place, ...]:
    ended_ms = row.ended_ms
    ended = () if ended_ms is None else ((ENDED, row.subject, ended_ms),)
    if not isinstance(row, JobRow):
        return ended
    member = member_of(row.created_ms, row.id)
    return ((cell_key(row.job), member, 0), (ALL, member, 0), *ended)


JOBS = Projection(name="jobs", version=2, places=_places)
