"""What a process counts of the changes that it has written to jobs.

Each change is counted once in the whole cluster, by its writer: so sums over all processes are right, and
of a job that nobody's metrics saw begin, only its duration is missing.
"""

from collections.abc import Sequence
from typing import Final

from core.change import Change
from core.events import (
    AttemptFailed,
    AttemptLost,
    Cancelled,
    Claimed,
    Completed,
    Failed,
    JobEvent,
    LostBecause,
)
from core.head import milliseconds_of
from core.states import Running, has_ended, status_of
from core.tally import Counts, Durations, Names
from projections.queues import BOUNDS_MS

DEFAULT_QUEUE: Final = "default"  # Of whoever names none: it is there before its first job.
QUEUES_MAX: Final = 100  # With series of their own, in one process.
BOUNDS_SECONDS: Final = tuple(bound / 1_000 for bound in BOUNDS_MS)
_RUNNING_MAX: Final = (
    20_000  # More than a worker runs at once: what is left over was taken from it.
)

_LOST: Final = {
    LostBecause.LEASE_RAN_OUT: "lost",
    LostBecause.DRAINED: "drained",
    LostBecause.NEVER_STARTED: "never_started",
}
_ENDED: Final[dict[type[JobEvent], str]] = {
    Completed: "completed",
    AttemptFailed: "retried",
    Failed: "failed",
    Cancelled: "cancelled",
}
_STATUSES: Final = ("completed", "failed", "cancelled", "expired")
OUTCOMES: Final = (*_ENDED.values(), *_LOST.values())


class JobFigures:
    """Tallies of jobs, for `cli.metrics` to show."""

    def __init__(self) -> None:
        self._queue = Names(QUEUES_MAX)
        self.submitted = Counts("queue")
        self.ended = Counts("queue", "status")
        self.attempts = Counts("outcome")
        self.waits = Durations(BOUNDS_SECONDS, "queue")
        self.durations = Durations(BOUNDS_SECONDS, "queue", "status")
        self.first_tokens = Durations(BOUNDS_SECONDS, "queue")
        self._claimed_ms: dict[str, int] = {}  # When what runs here was claimed.
        for outcome in OUTCOMES:
            self.attempts.begin(outcome)
        self.submitted.begin(self._queue(DEFAULT_QUEUE))
        for status in _STATUSES:
            self.ended.begin(DEFAULT_QUEUE, status)

    def waited(self, queue: str, milliseconds: int) -> None:
        """Count how long a job had waited that was claimed here."""
        self.waits.note(milliseconds / 1_000, self._queue(queue))

    def note(self, change: Change) -> None:
        """Count what a change comes to."""
        before, events, after = change.before, change.events, change.after
        if type(after) is Running:
            if type(events[-1]) is Claimed:
                self._begin(change.job_id, milliseconds_of(change.log_ids[-1]))
        elif before is None:
            self.submitted.add(self._queue(after.queue))
        else:
            if type(before) is Running or len(events) > 1:  # Claimed and lost in one step.
                self._note_attempt(events)
            began_ms = self._claimed_ms.pop(change.job_id, None)
            if has_ended(after):
                self._note_end(change, began_ms)

    def _note_end(self, change: Change, began_ms: int | None) -> None:
        queue, status = self._queue(change.after.queue), status_of(change.after)
        self.ended.add(queue, status)
        if began_ms is not None:
            took_ms = milliseconds_of(change.log_ids[-1]) - began_ms
            self.durations.note(took_ms / 1_000, queue, status)
        last = change.events[-1]
        if type(last) is Completed and last.timings.first_token_ms is not None:
            self.first_tokens.note(last.timings.first_token_ms / 1_000, queue)

    def _begin(self, job_id: str, at_ms: int) -> None:
        self._claimed_ms[job_id] = at_ms
        if len(self._claimed_ms) > _RUNNING_MAX:
            del self._claimed_ms[next(iter(self._claimed_ms))]

    def _note_attempt(self, events: Sequence[JobEvent]) -> None:
        """Count how an attempt ended; a loss that ends the job too is a loss."""
        for event in events:
            kind = type(event)
            if kind in _ENDED:
                self.attempts.add(_ENDED[kind])
                return
            if isinstance(event, AttemptLost):
                self.attempts.add(_LOST[event.why])
                return
