"""Figures that a process counts up, for `/metrics`: how often something was, and how long it took.

Counting takes well under a microsecond, as jobs and requests pay for it; who reads them, once every few
seconds, makes of them what is asked for (`cli.exposition`). Pure but for what they have counted.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

OTHERS: Final = "other"  # The label of what came after the names that have one of their own.


class Counts:
    """How often, by the values of some labels."""

    def __init__(self, *labels: str) -> None:
        self.labels = labels
        self._counts: defaultdict[tuple[str, ...], int] = defaultdict(int)

    def begin(self, *values: str) -> "Counts":
        """Say 0 of what has not been yet: a rise from nothing to 1 is none to Prometheus."""
        self._counts[values] += 0
        return self

    def add(self, *values: str) -> None:
        """Count one more."""
        self._counts[values] += 1

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], int]]:
        return iter(self._counts.items())


class Series(Struct):
    """The durations under one set of labels: how many in each bucket, and their sum in seconds."""

    buckets: list[int]  # The last has what is longer than all bounds.
    sum: float = 0.0


class Durations:
    """How long, by the values of some labels: a histogram with `bounds`, in seconds, ascending."""

    def __init__(self, bounds: Sequence[float], *labels: str) -> None:
        self.bounds = tuple(bounds)
        self.labels = labels
        self._series: dict[tuple[str, ...], Series] = {}

    def note(self, seconds: float, *values: str) -> None:
        """Count one that took so long."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = Series([0] * (len(self.bounds) + 1))
        series.buckets[bisect_left(self.bounds, seconds)] += 1
        series.sum += seconds

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], Series]]:
        return iter(self._series.items())


class Names:
    """Names that clients choose, as values of a label: the first so many, and `other` for the rest.

    Each is a series of its own in Prometheus, for good; any number of them would be its end.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        """The value that a name has."""
        if name in self._known:
            return name
        if len(self._known) >= self._most:
            return OTHERS
        self._known.add(name)
        return name
