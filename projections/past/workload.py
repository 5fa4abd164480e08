"""What a stretch of the log asked of its workers, and which workers there were. Pure.

`projections.past.simulation` plays it again with other workers. Memory grows with the jobs of the stretch.
"""

from msgspec import Struct

from core.events import Priority
from core.states import Lane


class Visit(Struct, frozen=True, kw_only=True, gc=False):
    """A job in line once, and the attempt that came of it; durations in milliseconds."""

    delay_ms: int  # From the end of its attempt before; 0 for the first.
    lane: Lane
    reaction_ms: int = 0  # From when both a slot and the job were there to the claim.
    ran_ms: int | None = None  # None: it was never claimed.
    leaves_ms: int | None = None  # When it was cancelled in line, or expired there.
    fatal_loss: int = (
        0  # The loss of a worker, counted from 1, that was the job's end; 0: none was.
    )


class Arrival(Struct, frozen=True, kw_only=True):
    """A job that asks for slots."""

    shard: int
    queue: str
    model: str
    priority: Priority
    at_ms: int  # When it first came into line; before the stretch, if it was there already.
    was_running: bool  # When the stretch began: its first visit is what was left of that attempt.
    visits: tuple[Visit, ...]


class Shift(Struct, frozen=True, kw_only=True):
    """A worker, from when it claimed."""

    name: str
    capacity: int
    queues: tuple[str, ...]  # Empty: every queue.
    models: tuple[str, ...]
    from_ms: int
    claims_until_ms: int  # It drained, or gave its last sign of life.
    until_ms: int  # What it still has then goes back into line.
    is_lost: bool = False  # Nothing that it had after its last sign of life came to an end.


class Pause(Struct, frozen=True):
    """A queue that is paused, or resumed."""

    at_ms: int
    queue: str
    is_paused: bool


class Waited(Struct, frozen=True, gc=False):
    """A claim: how long the job had been in line."""

    ms: int
    queue: str
    priority: Priority


class Played(Struct, frozen=True, kw_only=True):
    """What came of a workload, whether recorded or simulated."""

    waits: list[Waited]
    in_line: int  # At the end.
    busy_ms: int  # Of all slots together.
    capacity_ms: int


class Workload(Struct, frozen=True, kw_only=True):
    """Everything that happened to the workers of a stretch of time, and what came of it."""

    from_ms: int
    to_ms: int
    arrivals: list[Arrival]
    shifts: list[Shift]
    pauses: list[Pause]
    recorded: Played
