"""What options take besides numbers and words: times, and names that stand in keys and in the log."""

import re
from typing import Any, Final

import click

from core import api_keys

_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LONGEST_MS: Final = 100 * 366 * _UNITS_MS["d"]


class Duration(click.ParamType[int]):
    """Milliseconds, written with their unit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"([0-9]{1,9})([smhd])", str(value))
        milliseconds = int(found[1]) * _UNITS_MS[found[2]] if found else -1
        if not 0 <= milliseconds <= _LONGEST_MS:
            self.fail(f"{value!r}: takes a time such as 90d, 24h, 30m or 45s", param, ctx)
        return milliseconds


class Name(click.ParamType[str]):
    """The name of a key or a tenant."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(api_keys.NAME, str(value)):
            self.fail(f"{value!r}: takes 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'", param, ctx)
        return str(value)


DURATION: Final = Duration()
NAME: Final = Name()
