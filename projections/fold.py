"""The fold of log entries, and what it changes in a view. Pure: what is read and written comes elsewhere.

A batch is a run of entries; the view after it is the view before it with the batch's changes. The view
itself is the changes of one batch: the whole log. That is what `respool replay verify` holds it against.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from msgspec import Struct, field

from core.events import AnyEvent, Redacted
from core.log import LogEntry
from core.states import Job
from projections.projection import Count, Move, Series, Step, nothing
from projections.registry import PROJECTIONS
from projections.rows import JobRow, Row, Unfoldable, encode, track


class Horizon(Struct, frozen=True):
    """How far back a view reaches. It only ever moves on."""

    rows_ms: int = 0  # Rows whose end came before are forgotten.
    counts_ms: int = 0  # Now, for the buckets of counters: each series says how long it keeps them.


class Parked(Struct, frozen=True):
    """A subject that cannot be folded from some entry on; its later entries are passed over."""

    entry: str
    why: str


class Changes(Struct):
    """What a batch changes. Absolute values, but for gauges and counts, which are added."""

    rows: dict[str, bytes] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)  # Subjects whose rows are forgotten.
    # By the set's name, each member's score; None: it leaves.
    places: defaultdict[str, dict[str, int | None]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    added: dict[str, dict[str, int]] = field(default_factory=dict)  # To the fields of hashes.
    parked: dict[str, Parked] = field(default_factory=dict)


_Counters = dict[str, dict[str, int]]
_Functions = TypeVar("_Functions")


def _by_event(
    of_projections: Iterable[Mapping[type[AnyEvent], _Functions]],
) -> dict[type[AnyEvent], tuple[_Functions, ...]]:
    """What all projections have for each type of event."""
    functions: defaultdict[type[AnyEvent], tuple[_Functions, ...]] = defaultdict(tuple)
    for of_one in of_projections:
        for event, function in of_one.items():
            functions[event] += (function,)
    return dict(functions)


_COUNTS: Final = _by_event(one.counts for one in PROJECTIONS)
_MEASURES: Final = _by_event(one.measures for one in PROJECTIONS)
_PLACES: Final = tuple(one.places for one in PROJECTIONS if one.places is not nothing)
_GAUGES: Final = tuple(one.gauges for one in PROJECTIONS if one.gauges is not nothing)
_SERIES: Final = tuple(series for one in PROJECTIONS for series in one.series)


class _Open(Struct, frozen=True):
    """The buckets that all series count in for a while: the next entry is mostly in the same ones."""

    from_ms: int = 0
    to_ms: int = 0
    fields: dict[str, dict[str, int]] = {}  # By series.


class Batch:
    """A run of log entries, folded one by one onto the rows that were there before."""

    def __init__(self, rows: Mapping[str, Row], parked: Iterable[str], horizon: Horizon) -> None:
        """`rows` has the row of every subject in the batch that has one."""
        self.before = rows
        self.rows: dict[str, Row] = {}
        self.parked: dict[str, Parked] = {}
        self._passed_over = set(parked)
        self._horizon = horizon
        self._counters: _Counters = {}
        self._open = _Open()
        self._moves: dict[tuple[type[AnyEvent], Job | None, Job], int] = {}  # In the open buckets.

    def add(self, entry: LogEntry) -> None:
        """Fold one more entry. Raises Unfoldable if it does not continue what came before it."""
        subject = entry.subject
        if subject in self._passed_over:
            return
        before = self.rows.get(subject) or self.before.get(subject)
        if before is None and type(entry.event) is Redacted:
            return  # The row went when the retention was over, and what it knew with it.
        self.rows[subject] = after = track(before, entry)
        if type(after) is JobRow:
            self._count(entry, before if type(before) is JobRow else None, after)

    def _count(self, entry: LogEntry, before: JobRow | None, after: JobRow) -> None:
        at_ms, event = entry.at_ms, type(entry.event)
        if not self._open.from_ms <= at_ms < self._open.to_ms:
            self._close()
            self._open = self._opened(at_ms)
        move = (event, None if before is None else before.job, after.job)
        self._moves[move] = self._moves.get(move, 0) + 1
        if event in _MEASURES:
            step = Step(entry.event, at_ms, before, after)
            for measures in _MEASURES[event]:
                self._raise(measures(step))

    def _close(self) -> None:
        """Count the moves of the open buckets."""
        for move, times in self._moves.items():
            for counts in _COUNTS.get(move[0], ()):
                self._raise(counts(Move(*move)), times)
        self._moves.clear()

    def _raise(self, counts: Iterable[Count], times: int = 1) -> None:
        for series, name, by in counts:
            fields = self._open.fields[series.name]
            fields[name] = fields.get(name, 0) + by * times

    def add_or_park(self, entry: LogEntry) -> None:
        """Fold one more entry; if it cannot be, park its subject and go on with the others."""
        try:
            self.add(entry)
        except Unfoldable as error:
            self.park(entry.subject, Parked(entry.id, str(error)))

    def park(self, subject: str, parked: Parked) -> None:
        """Pass over a subject from here on; its row stays as it is."""
        if subject not in self._passed_over:
            self.parked[subject] = parked
            self._passed_over.add(subject)

    def row_of(self, subject: str) -> Row | None:
        """A subject's row so far."""
        return self.rows.get(subject) or self.before.get(subject)

    def look_from(self, horizon: Horizon) -> None:
        """Have a later horizon from here on; buckets that are over by then may still be counted."""
        self._horizon = horizon

    def changes(self) -> Changes:
        """What the batch changes in the view."""
        self._close()
        changes = Changes(
            parked=self.parked,
            added={
                key: {name: by for name, by in fields.items() if by}
                for key, fields in self._counters.items()
                if fields
            },
        )
        for subject, after in self.rows.items():
            before = self.before.get(subject)
            if after.ended_ms is not None and after.ended_ms < self._horizon.rows_ms:
                if before is not None:
                    forget(changes, before)
                continue
            changes.rows[subject] = encode(after)
            if before is None:
                _enter(changes, after)
            else:
                _move(changes, before, after)
        return changes

    def _opened(self, at_ms: int) -> _Open:
        """The buckets that a moment is in."""
        starts = {series: series.start_ms(at_ms) for series in _SERIES}
        return _Open(
            max(starts.values()),
            min(start_ms + series.bucket_ms for series, start_ms in starts.items()),
            {series.name: self._bucket(series, at_ms) for series in _SERIES},
        )

    def _bucket(self, series: Series, at_ms: int) -> dict[str, int]:
        """The counters of a bucket; some that nobody keeps, if it is over."""
        if series.is_over(at_ms, self._horizon.counts_ms):
            return {}
        return self._counters.setdefault(series.key(at_ms), {})


def forget(changes: Changes, row: Row) -> None:
    """Take a row out of the view, as if its subject had never been; counters keep what they counted."""
    changes.dropped.append(row.subject)
    _move(changes, row, None)


def _enter(changes: Changes, row: Row) -> None:
    """Take a subject that was not there to where its row stands."""
    for places in _PLACES:
        for key, member, score in places(row):
            changes.places[key][member] = score
    for gauges in _GAUGES:
        for key, name in gauges(row):
            _add(changes.added, key, name, +1)


def _move(changes: Changes, before: Row, after: Row | None) -> None:
    """Take a subject from where its row stood to where it stands now."""
    for places in _PLACES:
        was, now = places(before), () if after is None else places(after)
        for place in now:
            if place not in was:
                key, member, score = place
                changes.places[key][member] = score
        for place in was:
            if place not in now:
                key, member, _ = place
                changes.places[key].setdefault(member, None)
    for gauges in _GAUGES:
        counted, counts = gauges(before), () if after is None else gauges(after)
        for gauge in counted:
            if gauge not in counts:
                _add(changes.added, *gauge, -1)
        for gauge in counts:
            if gauge not in counted:
                _add(changes.added, *gauge, +1)


def _add(counters: _Counters, key: str, name: str, by: int) -> None:
    fields = counters.setdefault(key, {})
    fields[name] = fields.get(name, 0) + by
