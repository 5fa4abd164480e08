"""Holding what is stored of one subject against what the log says of it. Pure."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from core.effects import Timer
from core.keys import LaneName
from core.upcast import SCHEMA, stamp, upcast
from projections.replay.derived import NOTHING, Derived
from projections.replay.findings import Finding, Kind


class SeenHead(Struct):
    """A subject's head, as it is stored."""

    subject: str
    head: dict[bytes, bytes]  # Empty: there is none.
    expires_in_ms: int  # Redis's: -1 for never.

    @property
    def fields(self) -> dict[str, str]:
        """The head as text."""
        return dict(zip(texts_of(self.head), texts_of(self.head.values()), strict=True))


class Seen(SeenHead):
    """What is stored of one subject, all at the same moment. `core/lua/seen.lua` reads it."""

    timers: dict[str, int]
    holder: str | None  # Whose the lane entry is that the head names; None: not there.
    pending_for: str | None


def head_seen(subject: str, flat: list[bytes], expires_in_ms: int) -> SeenHead:
    """Read what the function says of a head."""
    return SeenHead(subject, _pairs(flat), expires_in_ms)


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    items = iter(flat)
    return dict(zip(items, items, strict=True))


def seen_of(subject: str, reply: list[Any]) -> Seen:
    """Read what the function says of a subject."""
    flat, expires_in_ms, due, deadline, holder, pending_for = reply
    timers = {}
    if due is not None:
        timers[str(Timer.DUE)] = int(float(due))
    if deadline is not None:
        timers[str(Timer.DEADLINE)] = int(float(deadline))
    return Seen(
        subject,
        _pairs(flat),
        expires_in_ms,
        timers,
        holder and holder.decode(),
        pending_for and pending_for.decode(),
    )


def texts_of(items: Iterable[bytes]) -> list[str]:
    """Text as Redis has it."""
    try:
        return list(map(bytes.decode, items))
    except UnicodeDecodeError:  # Nobody writes such, and it is rather shown than failed at.
        return [item.decode(errors="replace") for item in items]


class Reference(Struct, frozen=True):
    """What a subject is compared at: which shard, when, and how long a head is kept after its end."""

    shard: int
    now_ms: int
    retention_ms: int


def differences(seen: Seen, should: Derived, at: Reference) -> list[Finding]:
    """What is stored otherwise than the log says. What follows from a wrong head is not named too."""
    found = head_differences(seen, should, at)
    if not found and should.lane is not None:
        found = _of_entry(seen, should.lane, should.worker, at.shard)
    return found + _of_timers(seen, should, at.shard)


def head_differences(seen: SeenHead, should: Derived, at: Reference) -> list[Finding]:
    """What the head has that the log says otherwise."""
    if not seen.head:
        if should is NOTHING or _may_be_gone(should, at):
            return []
        why = "it has not ended" if should.ended_ms is None else "the retention is not over"
        return [_head(seen, "", None, _summary(should.fields), at, why)]
    if should is NOTHING:
        return [_head(seen, "", _summary(seen.fields), None, at, "the log does not know it")]
    has_expiry, has_ended = seen.expires_in_ms >= 0, should.ended_ms is not None
    if seen.head == should.head and should.lane is None and has_expiry == has_ended:
        return []  # As nearly all are; what follows says how another one differs.
    stored, expected_fields = _readable(seen.fields), should.fields
    entry = stored.pop("entry", None)
    found = []
    for name in sorted(stored.keys() | expected_fields.keys()):
        is_, expected = stored.get(name), expected_fields.get(name)
        if is_ != expected:
            found.append(_head(seen, name, is_, expected, at))
    if (entry is None) != (should.lane is None):
        expected = None if should.lane is None else f"an entry of lane {should.lane}"
        found.append(_head(seen, "entry", entry, expected, at))
    if has_expiry != has_ended:
        stored_as = "after a while" if has_expiry else "never"
        expected = "once the retention is over" if has_ended else "never"
        found.append(_head(seen, "expiry", stored_as, expected, at))
    return found


def _may_be_gone(should: Derived, at: Reference) -> bool:
    return should.ended_ms is not None and should.ended_ms + at.retention_ms <= at.now_ms


def _readable(stored: dict[str, str]) -> dict[str, str]:
    """A head as this release writes it. Raises FromTheFuture if a newer one wrote it."""
    schema = stored.get("schema", "")
    if not schema.isdigit() or int(schema) == SCHEMA:
        return dict(stored)
    stamped = {name: str(value) for name, value in stamp().items()}
    return {**upcast("head", dict(stored), int(schema)), **stamped}


def _of_entry(seen: Seen, lane: LaneName, worker: str | None, shard: int) -> list[Finding]:
    entry = seen.fields["entry"]
    if seen.holder != seen.subject:
        why = f"the entry is {seen.holder}'s" if seen.holder else ""
        return [_entry(seen.subject, str(lane), None, entry, shard, why)]
    if worker is not None and seen.pending_for is None:
        return [
            _entry(seen.subject, str(lane), "pending for nobody", f"pending for {worker}", shard)
        ]
    return []


def _of_timers(seen: Seen, should: Derived, shard: int) -> list[Finding]:
    if seen.timers == should.timers:
        return []
    return [
        Finding(
            kind=Kind.TIMER,
            shard=shard,
            subject=seen.subject,
            name=timer,
            stored=_text(seen.timers.get(timer)),
            expected=_text(should.timers.get(timer)),
        )
        for timer in sorted(seen.timers.keys() | should.timers.keys())
        if seen.timers.get(timer) != should.timers.get(timer)
    ]


def stray_entry(subject: str, lane: str, entry: str, shard: int) -> Finding:
    """A lane entry that its job does not name."""
    return _entry(subject, lane, entry, None, shard)


def _head(
    seen: SeenHead,
    name: str,
    stored: str | None,
    expected: str | None,
    at: Reference,
    why: str = "",
) -> Finding:
    return Finding(
        kind=Kind.HEAD,
        shard=at.shard,
        subject=seen.subject,
        name=name,
        stored=stored,
        expected=expected,
        why=why,
    )


def _entry(
    subject: str, lane: str, stored: str | None, expected: str | None, shard: int, why: str = ""
) -> Finding:
    return Finding(
        kind=Kind.ENTRY,
        shard=shard,
        subject=subject,
        name=lane,
        stored=stored,
        expected=expected,
        why=why,
    )


def _summary(fields: dict[str, str]) -> str:
    return f"{fields.get('status', 'of unknown status')}, version {fields.get('version', '?')}"


def _text(score: int | None) -> str | None:
    return None if score is None else str(score)
