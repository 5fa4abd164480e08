"""Moments as people type them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
TAKES: Final = (
    "2026-11-25T14:03:07Z, 14:03 or 14:03:07 (UTC, the last one), or 10m ago (s, m, h, d)"
)


def parse_moment(text: str, now: datetime) -> int:
    """Milliseconds since 1970. Raises ValueError for what is no moment."""
    text = text.strip()
    if text == "now":
        return _ms(now)
    if ago := re.fullmatch(r"(\d{1,6})([smhd]) ago", text):
        return _ms(now - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]]))
    if clock := re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3}))?)?", text):
        hour, minute, second = int(clock[1]), int(clock[2]), int(clock[3] or 0)
        milliseconds = int((clock[4] or "0").ljust(3, "0"))
        at = now.replace(hour=hour, minute=minute, second=second, microsecond=milliseconds * 1_000)
        return _ms(at if at <= now else at - timedelta(days=1))
    if re.fullmatch(r"\d{9,11}(\.\d{1,3})?", text):  # Seconds since 1970, as programs print them.
        return round(float(text) * 1_000)
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return _ms(at)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1_000)


class Moment(click.ParamType[int]):
    """A moment on the command line, in milliseconds since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it; what is no moment is named, with what would be."""
        if isinstance(value, int):
            return value
        try:
            return parse_moment(str(value), datetime.now(UTC))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no moment; takes {TAKES}", param, ctx)
