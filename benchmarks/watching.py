"""What metrics and the lines of jobs cost: the engine and a gateway, with and without.

    python -m benchmarks.watching
    python -m benchmarks.watching --only engine --rounds 60      one part: engine or gateway

Rounds alternate between neither, metrics alone (LOG_LEVEL=error) and both (LOG_LEVEL=info, LOG_FORMAT=json),
which is what roles do by default. What is shown are medians; in brackets, the median of each figure's part
of that with neither in the same round, as a shared machine is slower in one minute than in the next.

The engine's jobs are no-ops, so that all there is besides is the engine; one process submits some thousands
of them and works on them, once each way in each round, and its own CPU time is what they cost. The gateway is an API, a worker and a Redis
that appends to disk, asked for chat completions by wrk, in front of a server that answers at once; lines go
to a file. CPU time says something also on a machine that is busy with something else.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Final

import httpx
from msgspec import Struct

from benchmarks.contestants import CHAT, Contestant, respool, upstream
from benchmarks.gateway import ASKED, CONNECTIONS, under_load
from benchmarks.latency import free_port
from benchmarks.load import has_wrk, warm_up
from benchmarks.roles import RESPOOL
from benchmarks.server import BenchmarkRedis

ENGINE: Final = Path(__file__).parent / "peers" / "respool_watched.py"
UNWATCHED: Final = (sys.executable, "-m", "benchmarks.unwatched")
JOBS: Final = 3_000
MODES: Final = {"neither": None, "metrics": "error", "metrics and lines": "info"}
SCRAPES: Final = 50
SCRAPE_EVERY_SECONDS: Final = 15  # As deploy/prometheus/prometheus.yml has it.

Measured = dict[str, float]  # By what was measured.
Part = Callable[[ExitStack], Callable[[str], Measured]]


def main() -> None:
    parts: dict[str, Part] = {"engine": engine, "gateway": gateway}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=parts, help="one part instead of both")
    parser.add_argument("--rounds", type=int, default=9, help="how often each is measured")
    arguments = parser.parse_args()
    if arguments.only != "engine" and not has_wrk():
        raise SystemExit(
            "a gateway's load comes from wrk, which is not installed (Debian: apt install wrk)"
        )
    for name, part in parts.items():
        if arguments.only in {None, name}:
            print(f"\n## {name}\n", flush=True)
            with ExitStack() as stack:
                _compare(part(stack), arguments.rounds)


def _compare(measure: Callable[[str], Measured], rounds: int) -> None:
    """Measure each mode in turns, and print the medians as a table."""
    samples: dict[str, list[Measured]] = {mode: [] for mode in MODES}
    modes = list(samples)
    for number in range(rounds):
        first = number % len(modes)  # Nobody is always measured after the same one.
        for mode in (*modes[first:], *modes[:first]):
            samples[mode].append(measure(mode))
            shown = ", ".join(f"{what} {value:,.2f}" for what, value in samples[mode][-1].items())
            print(f"{mode}: {shown}", flush=True)
    without = samples["neither"]
    print(f"\n| | {' | '.join(without[0])} |\n|---|{'---|' * len(without[0])}")
    for mode, of_mode in samples.items():
        cells = (_cell(of_mode, without, what) for what in of_mode[0])
        print(f"| {mode} | {' | '.join(cells)} |")


def _cell(rounds: list[Measured], without: list[Measured], what: str) -> str:
    value = statistics.median(one[what] for one in rounds)
    shown = f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
    parts = [
        one[what] / other[what] for one, other in zip(rounds, without, strict=True) if other[what]
    ]
    return f"{shown} ({statistics.median(parts):.2f})" if parts else shown


def engine(stack: ExitStack) -> Callable[[str], Measured]:
    """The engine alone: submissions from 64 tasks, and no-op jobs through one worker."""
    redis = stack.enter_context(BenchmarkRedis())
    command = [sys.executable, str(ENGINE), redis.url, str(JOBS)]
    itself = stack.enter_context(
        subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True)
    )

    def measure(mode: str) -> Measured:
        assert itself.stdin is not None
        assert itself.stdout is not None
        redis.empty()
        print(MODES[mode] or "", file=itself.stdin, flush=True)
        line = itself.stdout.readline()
        if not line:
            raise SystemExit(f"the engine failed; run {' '.join(command)} to see why")
        measured: Measured = json.loads(line)
        return measured

    for mode in MODES:  # What comes first is slower.
        measure(mode)
    return measure


class Gateway(Struct, frozen=True):
    """One mode's API, worker and Redis, and the file that their lines go to."""

    itself: Contestant
    worker_url: str
    redis: BenchmarkRedis
    log: Path

    def measure(self) -> Measured:
        """One round of chat completions, 64 at a time, but for the median of one by one."""
        size, events = self.log.stat().st_size, self.redis.log_entries()
        seen = under_load(self.itself, CHAT, ASKED, self.redis)
        with self.log.open("rb") as log:
            log.seek(size)
            lines = sum(1 for _ in log)
        cpu_ms = {name: seen[f"CPU of {name}"] for name in self.itself.processes}
        rate = f"requests/s, {CONNECTIONS}"
        return {
            rate: seen[rate],
            "median ms, 1 connection": seen["median ms, 1 connection"],
            "CPU ms for a request": sum(cpu_ms.values()),
            **{f"of that {name}": value for name, value in cpu_ms.items()},
            "lines for an event": lines / (self.redis.log_entries() - events),
        }

    def scrape_cpu_ms(self) -> Measured:
        """What one scrape takes of the API and of the worker."""
        busy = self.itself.busy_seconds()
        with httpx.Client(trust_env=False) as client:
            for _ in range(SCRAPES):
                for url in (self.itself.url, self.worker_url):
                    client.get(f"{url}/metrics").raise_for_status()
        now = self.itself.busy_seconds()
        return {name: (now[name] - busy[name]) * 1_000 / SCRAPES for name in ("api", "worker")}


def gateway(stack: ExitStack) -> Callable[[str], Measured]:
    """A gateway for each mode, in front of one inference server; they take turns."""
    server = stack.enter_context(upstream())
    gateways = {mode: stack.enter_context(_gateway(server.url, mode)) for mode in MODES}
    for one in gateways.values():
        warm_up(one.itself.url + CHAT, ASKED)
    for name, taken_ms in gateways["metrics"].scrape_cpu_ms().items():
        share = taken_ms / 1_000 / SCRAPE_EVERY_SECONDS
        print(f"a scrape takes {taken_ms:.1f} ms of the {name}'s CPU: {share:.2%} of a core")
    print(f"(with one in {SCRAPE_EVERY_SECONDS} s)\n", flush=True)
    return lambda mode: gateways[mode].measure()


@contextmanager
def _gateway(server_url: str, mode: str) -> Iterator[Gateway]:
    level, port = MODES[mode], str(free_port())
    settings = {"LOG_LEVEL": level or "error", "LOG_FORMAT": "json", "WORKER_PORT": port}
    program = RESPOOL if level else UNWATCHED
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="respool-watching-"))
        redis = stack.enter_context(BenchmarkRedis(appendonly=True))
        log = Path(folder) / "log"
        itself = stack.enter_context(respool(server_url, redis, program, log, **settings))
        yield Gateway(itself, f"http://127.0.0.1:{port}", redis, log)


if __name__ == "__main__":
    main()
