"""A shard's log, folded in memory: the rows of all subjects, and what is wrong with the log itself.

Pure, and tolerant: unlike a runner it goes on over whatever it cannot fold, and remembers it.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from core.events import Redacted, Submitted
from core.head import position_of
from core.keys import ShardKeys
from core.log import LogEntry
from core.redaction import is_gone
from core.tail import NO_ENTRY
from projections.feed import Gap, Poison, Run, parse
from projections.fold import Batch, Horizon, Parked
from projections.gaps import Gaps, Missing
from projections.replay.findings import Finding, Kind
from projections.rows import Row, Unfoldable


class Unreadable(Struct, frozen=True):
    """A subject whose history cannot be folded."""

    why: str
    is_accepted: bool


class History:
    """A log from its start to `entry`, which is its number `sequence`."""

    def __init__(self, keys: ShardKeys, gaps: Gaps, horizon: Horizon) -> None:
        self.keys = keys
        self.gaps = gaps
        self.batch = Batch({}, (), horizon)
        self.sequence = 0
        self.entry = NO_ENTRY
        self.entries = 0
        self.log_ids: defaultdict[str, list[str]] = defaultdict(list)
        self.missing: list[Missing] = []
        self.unreadable: dict[str, Unreadable] = {}
        self.findings: list[Finding] = []
        self._facts: dict[str, str] = {}  # Of jobs that are forgotten.
        self._gone: set[str] = set()  # Jobs whose request is.
        self._operations: set[str] = set()
        self._operation = ""

    @property
    def rows(self) -> dict[str, Row]:
        return self.batch.rows

    @property
    def is_whole(self) -> bool:
        """Say whether nothing is missing but what was accepted."""
        return all(self.gaps.have(missing) for missing in self.missing)

    def add(self, raws: list[Any]) -> None:
        """Fold the entries that come next. Raises FromTheFuture."""
        noted = list(self.missing)
        try:
            run = parse(self.keys, raws, self.sequence, self.entry, self._note_missing)
        except Gap:  # Numbers that were used twice: so one by one.
            self.missing = noted
            for raw in raws:
                self._take(self._parse_alone(raw))
        else:
            self._take(run)

    def _parse_alone(self, raw: Any) -> Run:
        try:
            return parse(self.keys, [raw], self.sequence, self.entry, self._note_missing)
        except Gap as error:
            number = int(raw[1][b"q"])
            self._wrong(f"number {number}", str(error), "used once")
            return parse(self.keys, [raw], number - 1, self.entry)

    def _take(self, run: Run) -> None:
        self._fold(run.entries)
        if run.stopped is not None:
            raise run.stopped

    def _fold(self, entries: list[LogEntry | Poison]) -> None:
        add, log_ids = self.batch.add, self.log_ids
        operations, last_operation = self._operations, self._operation
        for entry in entries:
            subject = entry.subject
            if type(entry) is Poison:
                self._park(subject, entry.id, entry.why, is_accepted=False)
                continue
            log_ids[subject].append(entry.id)
            if type(entry.event) is Redacted:
                self._facts[subject] = entry.id
            elif type(entry.event) is Submitted and is_gone(entry.event.request):
                self._gone.add(subject)
            operation = entry.operation
            if operation != last_operation:  # One more append: its events follow each other.
                if operation in operations:
                    self._wrong(
                        f"operation {operation} of {subject}",
                        f"written again as entry {entry.id}",
                        "written once",
                    )
                operations.add(operation)
                last_operation = operation
            try:
                add(entry)
            except Unfoldable as error:
                explained = self.gaps.explain(entry, self.batch.row_of(subject))
                self._park(subject, entry.id, str(error), is_accepted=explained)
        self._operation = last_operation
        if entries:
            self.sequence, self.entry = entries[-1].sequence, entries[-1].id
            self.entries += len(entries)

    def _park(self, subject: str, entry: str, why: str, *, is_accepted: bool) -> None:
        self.unreadable.setdefault(subject, Unreadable(why, is_accepted))
        self.batch.park(subject, Parked(entry, why))

    def _note_missing(self, missing: Missing) -> bool:
        if missing.last < missing.first:
            return False
        if self.missing and self.missing[-1].first == missing.first:
            del self.missing[-1]  # It was the lost end, when that was all there was.
        self.missing.append(missing)
        return True

    def note_lost_end(self, sequence: int, last_id: str) -> None:
        """Remember that the log has lost its last entries, up to number `sequence`."""
        self.missing.append(Missing(self.sequence + 1, sequence, self.entry, last_id))

    def gap_with(self, log_id: str) -> Missing | None:
        """The gap that an entry may have been in."""
        return next((one for one in self.missing if one.had(log_id)), None)

    def has_come_to(self, entry: str) -> bool:
        """Say whether an entry was folded already, or would have been."""
        return position_of(self.entry) >= position_of(entry)

    def _wrong(self, what: str, stored: str, expected: str) -> None:
        self.findings.append(
            Finding(
                kind=Kind.LOG,
                shard=self.keys.shard,
                subject=what,
                name="",
                stored=stored,
                expected=expected,
            )
        )

    def of_the_log(self) -> list[Finding]:
        """What is wrong with the log itself."""
        return [
            *self.findings,
            *map(self._of_content, sorted(self._facts.keys() - self._gone)),
            *map(self._of_missing, self.missing),
            *(self._of_unreadable(*one) for one in self.unreadable.items()),
        ]

    def _of_content(self, job: str) -> Finding:
        return Finding(
            kind=Kind.LOG,
            shard=self.keys.shard,
            subject=f"request of {job}",
            name="",
            stored=f"there, though entry {self._facts[job]} says otherwise",
            expected="forgotten",
            why="run `respool forget` again",
        )

    def _of_missing(self, missing: Missing) -> Finding:
        return Finding(
            kind=Kind.LOG,
            shard=self.keys.shard,
            subject=f"number {missing}",
            name="",
            stored=None,
            expected=f"between {missing.after} and {missing.until}",
            is_accepted=self.gaps.have(missing),
        )

    def _of_unreadable(self, subject: str, unreadable: Unreadable) -> Finding:
        return Finding(
            kind=Kind.LOG,
            shard=self.keys.shard,
            subject=f"history of {subject}",
            name="",
            stored=unreadable.why,
            expected="one that can be folded",
            is_accepted=unreadable.is_accepted,
        )


Told = Callable[[str, int, int], None]  # What is being done, how much of it is done, of how much.
