"""What a guard is."""

from typing import NamedTuple


class Guard(NamedTuple):
    """A check, and what the code is without it."""

    name: str
    path: str
    code: str
    without: str
    tests: str
    program: str = ""  # Without which the tests skip.
