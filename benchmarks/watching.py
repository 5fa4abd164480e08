"""What metrics and the lines of jobs cost the engine: CPU time of a job, and jobs/s, with and without.

    python -m benchmarks.watching --rounds 5

Rounds alternate between neither, metrics alone (LOG_LEVEL=error) and both (LOG_LEVEL=info, LOG_FORMAT=json),
which is what a worker does by default. Jobs are no-ops, so that all there is besides is the engine. CPU time
is that of the submitting or the working process less what it takes to start; it says something also on a
machine that is busy with something else. Medians are compared, in brackets as parts of those with neither.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.server import BenchmarkRedis

PEER = Path(__file__).parent / "peers" / "respool_peer.py"
FEW, MANY = 1_000, 21_000  # What both have in common is no cost of a job.
MODES = {"neither": None, "metrics": "error", "metrics and lines": "info"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    rounds = parser.parse_args().rounds
    measured: dict[str, list[tuple[float, ...]]] = {mode: [] for mode in MODES}
    with BenchmarkRedis() as redis:
        for _ in range(rounds):
            for mode, level in MODES.items():
                figures = _round(redis, level)
                measured[mode].append(figures)
                print(mode, *(f"{figure:,.1f}" for figure in figures), flush=True)
    print("\n| | CPU of a submission | CPU of a job in its worker | submits/s | jobs/s |")
    print("|---|---|---|---|---|")
    before = _medians(measured["neither"])
    for mode, figures_of in measured.items():
        cells = (
            f"{figure:,.1f} ({figure / other:.2f})"
            for figure, other in zip(_medians(figures_of), before, strict=True)
        )
        submit, work, *rates = cells
        print(f"| {mode} | {submit} \u00b5s | {work} \u00b5s | {' | '.join(rates)} |")


def _medians(rounds: list[tuple[float, ...]]) -> list[float]:
    return [statistics.median(figures) for figures in zip(*rounds, strict=True)]


def _round(redis: BenchmarkRedis, level: str | None) -> tuple[float, ...]:
    """CPU in microseconds of a submission and of a job, then how many a second of each."""
    cpu: dict[str, list[float]] = {"submit": [], "work": []}
    rates: dict[str, float] = {}
    for jobs in (FEW, MANY):
        redis.empty()
        for what, costs in cpu.items():
            seconds, rates[what] = _run(redis.url, what, jobs, level)
            costs.append(seconds)
    of_one = [(many - few) / (MANY - FEW) * 1e6 for few, many in cpu.values()]
    return (*of_one, *rates.values())


def _run(url: str, what: str, jobs: int, level: str | None) -> tuple[float, float]:
    """The CPU seconds of one run of the peer, and how many jobs a second it counted."""
    environment = {name: value for name, value in os.environ.items() if name != "WATCHED"}
    if level is not None:
        environment["WATCHED"] = level
    arguments = [sys.executable, str(PEER), what, url, str(jobs)]
    with tempfile.TemporaryFile("w+") as output:
        streams = [
            (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        child = os.posix_spawn(sys.executable, arguments, environment, file_actions=streams)
        _, status, used = os.wait4(child, 0)
        output.seek(0)
        [line] = [line for line in output if line.startswith("{")]
    if status != 0:
        raise SystemExit(f"{what} failed; run {' '.join(arguments)} to see why")
    return used.ru_utime + used.ru_stime, float(json.loads(line)["per_second"])


if __name__ == "__main__":
    main()
