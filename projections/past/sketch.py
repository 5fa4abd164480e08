"""Percentiles of durations, however many there are, within 2 %. Pure.

Counts in buckets whose bounds grow by a constant ratio, as in DDSketch (Masson, Rim and Lee, VLDB 2019):
any percentile is then right to within half of that ratio, and the memory is that of a few hundred counts.
"""

from collections import Counter
from math import ceil, log
from typing import Final

_ERROR: Final = 0.02
_RATIO: Final = (1 + _ERROR) / (1 - _ERROR)
_LOG_RATIO: Final = log(_RATIO)


class Sketch:
    """How long something took, each time that it did; in milliseconds."""

    def __init__(self) -> None:
        self._counts: Counter[int] = (
            Counter()
        )  # By bucket; those of no time at all are in None's place.
        self._instant = 0
        self.total = 0

    def add(self, ms: int) -> None:
        """Count one more duration."""
        self.total += 1
        if ms <= 0:
            self._instant += 1
        else:
            self._counts[ceil(log(ms) / _LOG_RATIO)] += 1

    def percentile(self, share: float) -> float | None:
        """What `share` of the durations do not exceed; None if there were none."""
        if not self.total:
            return None
        left = share * self.total - self._instant
        if left <= 0:
            return 0.0
        for bucket in sorted(self._counts):
            left -= self._counts[bucket]
            if left <= 0:
                return float(2 * _RATIO**bucket / (_RATIO + 1))
        return float(2 * _RATIO ** max(self._counts) / (_RATIO + 1))
