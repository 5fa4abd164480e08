"""The fold of log entries, and what it changes in a view. Pure: what is read and written comes elsewhere.

A batch is a run of entries; the view after it is the view before it with the batch's changes. The view
itself is the changes of one batch: the whole log. That is what `respool replay verify` holds it against.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from msgspec import Struct, field

from core.log import LogEntry
from projections.projection import Projection, Series, Step, nothing
from projections.registry import PROJECTIONS
from projections.rows import Row, Unfoldable, encode, track


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
    places: dict[str, dict[str, int | None]] = field(default_factory=dict)  # None: leaves the set.
    added: dict[str, dict[str, int]] = field(default_factory=dict)  # To the fields of hashes.
    parked: dict[str, Parked] = field(default_factory=dict)


_Given = TypeVar("_Given")
_Counters = dict[str, dict[str, int]]
_COUNTS: Final = {
    event: tuple(one.counts[event] for one in PROJECTIONS if event in one.counts)
    for event in {event for one in PROJECTIONS for event in one.counts}
}


class _Open(NamedTuple):
    """The bucket that a series counted in last: the next entry is mostly in the same one."""

    from_ms: int
    to_ms: int
    fields: dict[str, int]


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
        self._open: dict[str, _Open] = {}  # By series.

    def add(self, entry: LogEntry) -> None:
        """Fold one more entry. Raises Unfoldable if it does not continue what came before it."""
        subject = entry.subject
        if subject in self._passed_over:
            return
        before = self.row_of(subject)
        after = track(before, entry)
        self.rows[subject] = after
        functions = _COUNTS.get(type(entry.event))
        if functions is None:
            return
        step = Step(entry.event, entry.at_ms, before, after)
        for counts in functions:
            for series, name, by in counts(step):
                fields = self._bucket(series, step.at_ms)
                fields[name] = fields.get(name, 0) + by

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

    def changes(self, projections: tuple[Projection, ...] = PROJECTIONS) -> Changes:
        """What the batch changes in the view."""
        changes = Changes(
            parked=self.parked,
            added={
                key: {name: by for name, by in fields.items() if by}
                for key, fields in self._counters.items()
            },
        )
        for subject, after in self.rows.items():
            before = self.before.get(subject)
            if after.ended_ms is not None and after.ended_ms < self._horizon.rows_ms:
                if before is not None:
                    forget(changes, before, projections)
                continue
            changes.rows[subject] = encode(after)
            _move(changes, before, after, projections)
        return changes

    def _bucket(self, series: Series, at_ms: int) -> dict[str, int]:
        """The counters of the bucket that a moment is in; some that nobody keeps, if it is over."""
        open_ = self._open.get(series.name)
        if open_ is None or not open_.from_ms <= at_ms < open_.to_ms:
            from_ms = at_ms - at_ms % series.bucket_ms
            is_over = series.is_over(at_ms, self._horizon.counts_ms)
            fields = {} if is_over else self._counters.setdefault(series.key(at_ms), {})
            open_ = self._open[series.name] = _Open(from_ms, from_ms + series.bucket_ms, fields)
        return open_.fields


def forget(changes: Changes, row: Row, projections: tuple[Projection, ...] = PROJECTIONS) -> None:
    """Take a row out of the view, as if its subject had never been; counters keep what they counted."""
    changes.dropped.append(row.subject)
    _move(changes, row, None, projections)


def _move(
    changes: Changes, before: Row | None, after: Row | None, projections: tuple[Projection, ...]
) -> None:
    """Take a subject from where its row stood to where it stands now."""
    for one in projections:
        was, now = _all(one.places, before), _all(one.places, after)
        for key, member, score in now - was:
            changes.places.setdefault(key, {})[member] = score
        for key, member, _ in was - now:
            changes.places.setdefault(key, {}).setdefault(member, None)
        counted, counts = _all(one.gauges, before), _all(one.gauges, after)
        for key, name in counted - counts:
            _add(changes.added, key, name, -1)
        for key, name in counts - counted:
            _add(changes.added, key, name, +1)


def _all(given: Callable[[Row], Iterable[_Given]], row: Row | None) -> frozenset[_Given]:
    return _NOTHING if row is None or given is nothing else frozenset(given(row))


_NOTHING: Final[frozenset[Any]] = frozenset()


def _add(counters: _Counters, key: str, name: str, by: int) -> None:
    fields = counters.setdefault(key, {})
    fields[name] = fields.get(name, 0) + by
