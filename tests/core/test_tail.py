"""What a log has lost, by what was known of it and what is there now."""

import pytest

from core.tail import Look, Loss, Place, in_words, loss

KNOWN = Place(5, "50-0")
FIRST = Place(1, "10-0")
NOTHING = Place()


@pytest.mark.parametrize(
    ("now", "lost"),
    [
        # As it was, gone on, and trimmed from the front.
        (Look(last=KNOWN, first=FIRST, left=KNOWN), None),
        (Look(last=Place(9, "90-0"), first=FIRST, left=KNOWN), None),
        (Look(last=Place(9, "90-0"), first=Place(6, "60-0"), left=NOTHING), None),
        # Shorter than it was.
        (
            Look(last=Place(3, "30-0"), first=FIRST, left=Place(3, "30-0")),
            Loss(first=4, entries=2, is_reused=False, is_all=False),
        ),
        # Shorter, and gone on since: with fewer, as many and more than were lost.
        (
            Look(last=Place(4, "60-0"), first=FIRST, left=Place(3, "30-0")),
            Loss(first=4, entries=2, is_reused=True, is_all=False),
        ),
        (
            Look(last=Place(5, "60-0"), first=FIRST, left=Place(4, "40-0")),
            Loss(first=5, entries=1, is_reused=True, is_all=False),
        ),
        (
            Look(last=Place(8, "80-0"), first=FIRST, left=Place(3, "30-0")),
            Loss(first=4, entries=2, is_reused=True, is_all=False),
        ),
        # Begun anew.
        (
            Look(last=Place(3, "70-0"), first=Place(1, "60-0"), left=NOTHING),
            Loss(first=1, entries=5, is_reused=True, is_all=False),
        ),
        # The very same id with another number: another log.
        (
            Look(last=Place(8, "80-0"), first=FIRST, left=Place(4, "50-0")),
            Loss(first=5, entries=1, is_reused=True, is_all=False),
        ),
        # A new primary whose clock is behind wrote more than was lost, under smaller ids.
        (
            Look(last=Place(7, "49-0"), first=FIRST, left=Place(7, "49-0")),
            Loss(first=5, entries=1, is_reused=True, is_all=False),
        ),
        (
            Look(last=NOTHING, first=NOTHING, left=NOTHING),
            Loss(first=1, entries=5, is_reused=False, is_all=True),
        ),
    ],
)
def test_what_is_gone_is_known_by_what_is_left(now: Look, lost: Loss | None) -> None:
    assert loss(KNOWN, now) == lost


def test_a_log_of_which_nothing_is_known_has_lost_nothing() -> None:
    assert loss(NOTHING, Look(last=Place(3, "30-0"), first=FIRST, left=NOTHING)) is None


def test_ids_are_compared_as_numbers() -> None:
    known = Place(5, "99-9")
    trimmed = Look(last=Place(9, "100-0"), first=Place(6, "99-10"), left=NOTHING)
    assert loss(known, trimmed) is None


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (
            Loss(first=4, entries=2, is_reused=False, is_all=False),
            "the log of shard 1 has lost its end, from event number 4 on: 2 or more",
        ),
        (
            Loss(first=4, entries=2, is_reused=True, is_all=False),
            (
                "the log of shard 1 has lost its end, from event number 4 on: 2 or more; "
                "other events have their numbers by now"
            ),
        ),
        (
            Loss(first=1, entries=5, is_reused=False, is_all=True),
            "the log of shard 1 is empty; it had at least 5 events",
        ),
    ],
)
def test_a_loss_is_said_in_plain_words(lost: Loss, words: str) -> None:
    assert in_words(1, lost) == words
