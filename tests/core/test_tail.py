"""What a log has lost, by where it ended and what is there now."""

import pytest

from core.tail import NO_ENTRY, Look, Tail, loss

ENDED = Tail(5, "50-0")


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (Look(Tail(5, "50-0"), "10-0", 5), None),
        (Look(Tail(9, "90-0"), "10-0", 5), None),
        (Look(Tail(9, "90-0"), "60-0", 0), None),  # Trimmed from the front.
        (Look(Tail(), NO_ENTRY, 0), "is empty; it had 5 events"),
        (Look(Tail(3, "30-0"), "10-0", 0), "event 5 (50-0) is gone"),
        (Look(Tail(8, "80-0"), "10-0", 0), "it goes on with 8 (80-0)"),  # Other events, by now.
        (Look(Tail(3, "70-0"), "60-0", 0), "has lost its end"),  # And begun anew.
        (Look(Tail(8, "80-0"), "10-0", 4), "has lost its end"),  # Another event in its place.
    ],
)
def test_what_is_gone_is_said(now: Look, says: str | None) -> None:
    said = loss(0, ENDED, now)
    assert said is None if says is None else says in (said or "")


def test_a_log_that_was_empty_has_lost_nothing() -> None:
    assert loss(0, Tail(), Look(Tail(3, "30-0"), "10-0", 0)) is None
