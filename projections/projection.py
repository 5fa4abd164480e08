"""What a projection is: pure functions with a name and a version.

Of a row: the sorted sets that it stands in (`places`), and the gauges that count it (`gauges`). Of a job's
log entry: the counters that it raises, each in a bucket of time. What follows from the states before and after
it alone is a count of that move (`counts`): many jobs make the same move, and it is looked at once for all of
them. What depends on when it was, or what the event says, is a count of that one step (`measures`).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from msgspec import Struct

from core.events import AnyEvent
from core.states import Job
from projections.rows import JobRow, Row


class Series(Struct, frozen=True):
    """Counters in buckets of time, which are forgotten once they are old."""

    name: str
    bucket_ms: int
    keep_ms: int

    def key(self, at_ms: int) -> str:
        """The name of the hash that counts at a moment; its number is the bucket's start in seconds."""
        return f"{self.name}:{self.start_ms(at_ms) // 1_000}"

    def keys(self, from_ms: int, to_ms: int) -> list[str]:
        """The names of all buckets that overlap a span, oldest first."""
        first_ms = self.start_ms(from_ms)
        return [self.key(at_ms) for at_ms in range(first_ms, to_ms + 1, self.bucket_ms)]

    def is_over(self, at_ms: int, now_ms: int) -> bool:
        """Say whether the bucket of a moment is no longer kept."""
        return self.start_ms(at_ms) + self.bucket_ms + self.keep_ms <= now_ms

    def start_ms(self, at_ms: int) -> int:
        """When the bucket of a moment begins."""
        return at_ms - at_ms % self.bucket_ms


# Plain tuples, as there are several for each entry of the log.
Place = tuple[str, str, int]  # A member of a sorted set: the set's name, the member, its score.
Gauge = tuple[str, str]  # A field that counts how many rows are so: the hash's name, the field.
Count = tuple[Series, str, int]  # A field of a counter, and by how much it goes up.


class Move(NamedTuple):
    """From which state an event of some type brought a job to which."""

    event: type[AnyEvent]
    before: Job | None
    after: Job


class Step(Struct, frozen=True):
    """One log entry of a job, and what it did to it."""

    event: AnyEvent
    at_ms: int
    before: JobRow | None
    after: JobRow


def nothing(_: Row) -> tuple[Any, ...]:
    """For a projection that places, or gauges, nothing."""
    return ()


class Projection(Struct, frozen=True, kw_only=True):
    """A view of the log. Whatever changes what its functions give raises its version."""

    name: str
    version: int
    places: Callable[[Row], tuple[Place, ...]] = nothing
    gauges: Callable[[Row], tuple[Gauge, ...]] = nothing
    # By type of event.
    counts: Mapping[type[AnyEvent], Callable[[Move], tuple[Count, ...]]] = {}
    measures: Mapping[type[AnyEvent], Callable[[Step], tuple[Count, ...]]] = {}
    series: tuple[Series, ...] = ()
