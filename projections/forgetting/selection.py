"""Whose content is to go: the jobs of a tenant, or some by name, as log and archive have them. Pure."""

from collections.abc import Iterable

from msgspec import Struct, field

from core.events import Submitted
from core.log import LogEntry
from core.states import Ended
from projections.rows import JobRow, Unfoldable, track


class Who(Struct, frozen=True):
    """Jobs by name, or a tenant's."""

    jobs: frozenset[str] = frozenset()
    tenant: str | None = None

    def has(self, entry: LogEntry) -> bool:
        """Say whether a job's first entry is of one that is meant."""
        if entry.subject in self.jobs:
            return True
        return isinstance(entry.event, Submitted) and entry.event.tenant == self.tenant


class Life(Struct):
    """A job as its entries so far leave it."""

    row: JobRow | None = None
    log_ids: list[str] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.row is None or not isinstance(self.row.job, Ended)

    @property
    def is_forgotten(self) -> bool:
        """Say whether the fact is on the log; what it says may still have to be carried out."""
        return self.row is not None and isinstance(self.row.job, Ended) and self.row.job.forgotten


class Selection:
    """The lives of those who are meant, out of a whole log."""

    def __init__(self, who: Who) -> None:
        self._who = who
        self.lives: dict[str, Life] = {}
        self.unreadable: dict[str, str] = {}  # Jobs whose history does not fold, and why.

    def see(self, entries: Iterable[LogEntry]) -> None:
        """Take note of the entries that come next."""
        for entry in entries:
            life = self.lives.get(entry.subject)
            if life is None:
                if not self._who.has(entry):
                    continue
                life = self.lives[entry.subject] = Life()
            self._live_on(life, entry)

    def _live_on(self, life: Life, entry: LogEntry) -> None:
        life.log_ids.append(entry.id)
        if entry.subject in self.unreadable:
            return
        try:
            row = track(life.row, entry)
        except Unfoldable as error:
            self.unreadable[entry.subject] = str(error)
            return
        assert isinstance(row, JobRow), "who is meant is a job"
        life.row = row
