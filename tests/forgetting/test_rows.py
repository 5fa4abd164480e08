"""What a view makes of the fact that a job is forgotten."""

from core.events import Redacted
from core.log import LogEntry
from projections.fold import Batch, Horizon
from tests.given import new_id


def test_a_row_that_was_pruned_does_not_come_back_and_parks_nothing() -> None:
    batch = Batch({}, (), Horizon())
    batch.add_or_park(LogEntry("5-0", 5, 9, new_id(), 4, "op", Redacted(by="operator")))
    changes = batch.changes()
    assert (changes.rows, changes.parked, changes.dropped) == ({}, {}, [])
    assert not any(changes.added.values())
