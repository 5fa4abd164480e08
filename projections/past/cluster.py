"""The whole cluster at one moment of its log: what waited, what ran where, who was there. Pure.

Memory grows with what is open, not with the log: a job that completed is forgotten at once, and what may
come back, a job by a requeue and a worker by its next heartbeat, after the retention time.
"""

from collections.abc import Iterable
from itertools import islice

from msgspec import Struct

from core.events import AnyEvent, Redacted
from core.log import LogEntry
from core.states import Completed, has_ended
from projections.rows import JobRow, QueueRow, Row, Unfoldable, WorkerRow, track


class Step(Struct, frozen=True, gc=False):
    """One log entry of a job, a worker or a queue, and what it did to it."""

    event: AnyEvent
    at_ms: int
    before: Row | None
    after: Row


class Cluster:
    """The fold of a log, entry by entry."""

    def __init__(self, retention_ms: int) -> None:
        self._retention_ms = retention_ms
        self.at_ms = 0  # Of the last entry.
        self.entries = 0
        self.open: dict[str, JobRow] = {}  # Jobs that have not ended.
        self.workers: dict[str, WorkerRow] = {}  # Of which some have ended.
        self.queues: dict[str, QueueRow] = {}
        self.unknown: set[str] = set()  # Subjects whose history begins in the middle.
        self._ended: dict[str, JobRow] = {}  # That may live again; the oldest first.

    def add(self, entry: LogEntry) -> Step | None:
        """Fold one more entry: what it did; None if that cannot be told."""
        at_ms = entry.at_ms
        self.at_ms = max(self.at_ms, at_ms)
        self.entries += 1
        subject = entry.subject
        if type(entry.event) is Redacted:
            return None  # Nothing moves, and nothing can follow.
        if self.unknown and subject in self.unknown:
            return None
        before = self._row_of(subject)
        try:
            after = track(before, entry)
        except Unfoldable:
            self.unknown.add(subject)
            self._forget(subject)
            return None
        self._keep(subject, after)
        return Step(entry.event, at_ms, before, after)

    def living(self) -> Iterable[WorkerRow]:
        """The workers that claim, or finish what they have."""
        return (row for row in self.workers.values() if not row.worker.has_ended)

    def _row_of(self, subject: str) -> Row | None:
        if ":" not in subject:
            return self.open.get(subject) or self._ended.get(subject)
        kind, _, name = subject.partition(":")
        return self.workers.get(name) if kind == "worker" else self.queues.get(name)

    def _keep(self, subject: str, row: Row) -> None:
        match row:
            case JobRow():
                if not has_ended(row.job):
                    if self._ended:
                        self._ended.pop(subject, None)
                    self.open[subject] = row
                    return
                self.open.pop(subject, None)
                if not isinstance(row.job, Completed):
                    self._ended[subject] = row
                    self._forget_old_jobs()
            case WorkerRow():
                self.workers[row.name] = row
                self._forget_old_workers()
            case QueueRow():
                self.queues[row.name] = row

    def _forget_old_jobs(self) -> None:
        before_ms = self.at_ms - self._retention_ms
        for subject in list(islice(self._ended, 2)):  # Two for each that comes: so it never grows.
            if self._ended[subject].since_ms < before_ms:
                del self._ended[subject]

    def _forget_old_workers(self) -> None:
        before_ms = self.at_ms - self._retention_ms
        for row in list(self.workers.values()):
            if row.worker.has_ended and row.since_ms < before_ms:
                del self.workers[row.name]

    def _forget(self, subject: str) -> None:
        name = subject.partition(":")[2]
        self.open.pop(subject, None)
        self._ended.pop(subject, None)
        if name:
            (self.workers if subject.startswith("worker:") else self.queues).pop(name, None)
