"""What many runs were made of, so that nobody takes a simulation for proof of what it never did."""

import time
from collections import Counter
from collections.abc import Iterable

from tests.simulation.run import Failed, Report, run
from tests.simulation.server import simulated


class Tally:
    """A sum of reports."""

    def __init__(self) -> None:
        self.runs = 0
        self.accepted = 0
        self.chunks = 0
        self.fates: Counter[str] = Counter()
        self.blows: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self._started = time.monotonic()

    def add(self, report: Report) -> None:
        self.runs += 1
        self.accepted += report.accepted
        self.chunks += report.chunks
        self.fates += report.fates
        self.blows += report.blows
        self.events += report.events

    def line(self) -> str:
        """How far it is, in one line."""
        seconds = time.monotonic() - self._started
        return (
            f"{seconds:7.0f} s  {self.runs} runs  {self.fates.total()} calls  "
            f"{self.accepted} jobs accepted  0 broken"
        )

    def __str__(self) -> str:
        parts = [self.line()]
        for name, counter in (
            ("calls", self.fates),
            ("blows", self.blows),
            ("events", self.events),
        ):
            parts.append(f"{name}:")
            parts += [f"{number:>12}  {what}" for what, number in counter.most_common()]
        parts.append(f"output:\n{self.chunks:>12}  chunks")
        return "\n".join(parts)


def campaign(kind: str, seeds: Iterable[int]) -> Tally | Failed:
    """Run all seeds on a server of that kind: what they were made of, or the first that failed."""
    tally = Tally()
    with simulated(kind) as server:
        for seed in seeds:
            try:
                tally.add(run(server, seed))
            except Failed as failed:
                return failed
    return tally
