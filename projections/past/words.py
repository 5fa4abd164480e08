"""Durations and moments in words."""

from datetime import UTC, datetime


def duration(ms: float) -> str:
    """A duration in its two largest units, such as `4 m 12 s`."""
    if ms < 1_000:
        return f"{max(0, round(ms))} ms"
    if ms < 10_000:
        return f"{ms / 1_000:.1f} s"
    seconds = round(ms / 1_000)
    for size, unit, part_size, part in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if seconds >= size:
            rest = seconds % size // part_size
            return (
                f"{seconds // size} {unit} {rest} {part}" if rest else f"{seconds // size} {unit}"
            )
    return f"{seconds} s"


def clock(at_ms: int) -> str:
    """The time of day in UTC, such as `14:03:07.512`."""
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%H:%M:%S.%f")[:-3]


def moment(at_ms: int) -> str:
    """RFC 3339 in UTC."""
    at = datetime.fromtimestamp(at_ms / 1_000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def some(count: int, what: str) -> str:
    """A number of things, such as `1 job`, `31 jobs`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
