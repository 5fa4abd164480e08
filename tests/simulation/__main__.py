"""Runs the simulation for as long as it is given, or one run again.

    python -m tests.simulation --hours 2          whatever comes up in two hours
    python -m tests.simulation --runs 500         500 runs
    python -m tests.simulation --seed 1234        the run of one seed, with its trace
    python -m tests.simulation --server redis     on Debian's Redis instead of the embedded Valkey

A run that fails ends it: the trace, what was not as it must be, the command that plays it again, and
exit status 1.
"""

import argparse
import secrets
import shutil
import sys
import time
from collections import Counter
from itertools import count

from tests.simulation.run import Failed, Report, run
from tests.simulation.server import Server, simulated
from tests.simulation.tally import Tally

_SAY_EVERY_SECONDS = 30.0


def main() -> None:
    asked = _arguments()
    if asked.server == "redis" and shutil.which("redis-server") is None:
        sys.exit("redis-server is not installed (Debian: apt-get install redis-server)")
    with simulated(asked.server) as server:
        try:
            if asked.seed is not None:
                _show(run(server, asked.seed))
            else:
                _run_many(server, asked)
        except Failed as failed:
            for step in failed.trace:
                print(step)
            print(f"\n{failed}\nagain: {failed.command(asked.server)}")
            sys.exit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--hours", type=float, default=1.0, help="how long to run (1)")
    parser.add_argument("--runs", type=int, help="how many runs, instead of how long")
    parser.add_argument("--seed", type=int, help="the one run to play")
    parser.add_argument("--first", type=int, help="the first seed (random); the others follow it")
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey")
    return parser.parse_args()


def _run_many(server: Server, asked: argparse.Namespace) -> None:
    first = secrets.randbits(40) if asked.first is None else asked.first
    print(f"seeds from {first} on, on {asked.server}", flush=True)
    until = time.monotonic() + asked.hours * 3_600
    say_at = time.monotonic() + _SAY_EVERY_SECONDS
    tally = Tally()
    for number in count():
        is_over = time.monotonic() >= until if asked.runs is None else number >= asked.runs
        if is_over:
            break
        tally.add(run(server, first + number))
        if time.monotonic() >= say_at:
            say_at += _SAY_EVERY_SECONDS
            print(tally.line(), flush=True)
    print(tally)


def _show(report: Report) -> None:
    for step in report.trace:
        print(step)
    for line in report.log:
        print(*line)
    print(f"seed {report.seed} holds: {_counted(report.events)}")


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counter.most_common())


if __name__ == "__main__":
    main()
