"""What `respool replay verify` finds: a difference between what is stored and what the log says. Pure."""

from enum import StrEnum

from msgspec import Struct


class Kind(StrEnum):
    """Where a difference is."""

    LOG = "log"  # The log itself is not whole, or says what cannot be: nothing derives that.
    SEQUENCE = "sequence"
    HEAD = "head"
    ENTRY = "lane entry"
    LANE = "lane"
    TIMER = "timer"
    COUNT = "count"
    PAUSED = "paused"
    SUBJECTS = "subjects"
    VIEW = "view"


class Finding(Struct, frozen=True, kw_only=True):
    """One difference. Texts, as Redis has them; None for nothing."""

    kind: Kind
    shard: int
    subject: str  # A job, a worker, a queue; or the name of what is wrong.
    name: str  # Of its field, lane, timer, …; empty: all of it.
    stored: str | None
    expected: str | None
    why: str = ""
    is_accepted: bool = False  # It comes of a gap in the log that an operator has accepted.

    def __str__(self) -> str:
        what = " ".join(part for part in (self.kind, self.subject, self.name) if part)
        where = f"shard {self.shard}: {what}"
        because = f" ({self.why})" if self.why else ""
        if self.stored is None:
            return f"{where} is missing; it should be {_shown(self.expected)}{because}"
        if self.expected is None:
            return f"{where} is {_shown(self.stored)}, and should not be there{because}"
        return f"{where} is {_shown(self.stored)}; it should be {_shown(self.expected)}{because}"


_SHOWN_MAX = 500


def _shown(text: str | None) -> str:
    if text is None:
        return "nothing"
    return repr(text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…")
