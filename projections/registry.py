"""All projections, and the fingerprint of their versions."""

from typing import Final

from core.upcast import SCHEMA
from projections import rows
from projections.jobs import JOBS
from projections.outcomes import OUTCOMES
from projections.projection import Projection
from projections.queues import QUEUES
from projections.usage import USAGE
from projections.workers import WORKERS

PROJECTIONS: Final[tuple[Projection, ...]] = (JOBS, QUEUES, WORKERS, USAGE, OUTCOMES)


def fingerprint(projections: tuple[Projection, ...] = PROJECTIONS) -> str:
    """What a generation of views was built by: `schema.1 rows.1 jobs.1 …`. Another one needs a rebuild.

    The schema too, as rows hold states: an older release would drop what it does not know of them.
    """
    named = (f"{one.name}.{one.version}" for one in projections)
    return " ".join((f"schema.{SCHEMA}", f"rows.{rows.VERSION}", *named))
