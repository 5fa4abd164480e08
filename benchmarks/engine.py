"""What the engine does, beside its peers: submits/s, jobs/s, a deep backlog, memory, latency.

    python -m benchmarks.engine                    all of it, about six minutes
    python -m benchmarks.engine --only memory      one part: peers, backlog, memory or latency

Everything runs on one real Redis without persistence, one measurement at a time. The peers are each
in a virtual environment of their own (benchmarks/.venvs, made when missing), as their requirements
conflict. Rounds are interleaved, and medians are compared, because machines are noisy.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.backlog import rate_at_backlog
from benchmarks.environments import python_of
from benchmarks.latency import idle_latencies_ms
from benchmarks.server import BenchmarkRedis

HERE = Path(__file__).parent
PEERS = {
    "arq": ("arq==0.28.0",),
    "saq": ("saq[redis]==0.26.4", "typing_extensions"),
    "taskiq-redis": ("taskiq-redis==1.2.4", "orjson"),
    "streaq": ("streaq==7.2.0",),
    "dramatiq": ("dramatiq[redis]==2.2.1",),
    "pydocket": ("pydocket==0.27.0",),
}
COMMON = ("hiredis==3.5.0", "uvloop==0.23.0")
SUBMITS = 20_000
JOBS = 20_000
MEMORY_JOBS = 50_000
BACKLOGS = (100_000, 1_000_000)
REQUEST_BYTES = 300


def main() -> None:
    parts = {"peers": peers, "backlog": backlog, "memory": memory, "latency": latency}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=parts, help="one part instead of all")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    arguments = parser.parse_args()
    with BenchmarkRedis() as redis:
        print(f"{platform.processor() or platform.machine()}, {redis.version}", flush=True)
        for name, part in parts.items():
            if arguments.only in {None, name}:
                print(f"\n## {name}\n", flush=True)
                part(redis, arguments.rounds)


def peers(redis: BenchmarkRedis, rounds: int) -> None:
    """Submits/s from 64 tasks, and no-op jobs/s of one worker process, ours and everybody's."""
    names = ["respool", *PEERS]
    rates: dict[tuple[str, str], list[float]] = {}
    how: dict[tuple[str, str], str] = {}
    for _ in range(rounds):
        for line in (line for name in names for line in _measure(name, redis)):
            key = (line["peer"], line["what"])
            rates.setdefault(key, []).append(line["per_second"])
            how[key] = f"{line['version']}, {line['how']}"
    medians = {key: statistics.median(values) for key, values in rates.items()}
    for what in ("submit", "work"):
        fastest = max(medians[name, what] for name in PEERS)
        print(f"| {what} | median/s | ours / theirs | how |\n|---|---|---|---|")
        for name in sorted(names, key=lambda name: -medians[name, what]):
            ratio = medians["respool", what] / medians[name, what]
            print(f"| {name} | {medians[name, what]:,.0f} | {ratio:.2f} | {how[name, what]} |")
        ratio = medians["respool", what] / fastest
        print(f"\n{what}: {ratio:.2f} times the fastest peer\n", flush=True)


def _measure(name: str, redis: BenchmarkRedis) -> Iterator[dict[str, Any]]:
    python = Path(sys.executable) if name == "respool" else python_of(name, PEERS[name] + COMMON)
    script = HERE / "peers" / f"{name.replace('-', '_')}_peer.py"
    redis.empty()
    for what, count in (("submit", SUBMITS), ("work", JOBS)):
        done = subprocess.run(
            [python, script, what, redis.url, str(count)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if not lines:
            raise SystemExit(f"{name} {what} failed:\n{done.stderr[-2_000:]}")
        yield json.loads(lines[-1])


def backlog(redis: BenchmarkRedis, rounds: int) -> None:
    """The worker's jobs/s with a short and with a long line of jobs behind the ones it takes."""
    rates: dict[int, list[float]] = {depth: [] for depth in BACKLOGS}
    for _ in range(rounds):
        for depth in BACKLOGS:
            redis.empty()
            rates[depth].append(rate_at_backlog(redis.url, depth))
            print(f"round: backlog of {depth:>9,}: {rates[depth][-1]:,.0f} jobs/s", flush=True)
    medians = {depth: statistics.median(values) for depth, values in rates.items()}
    for depth, median in medians.items():
        print(f"backlog of {depth:>9,}: {median:,.0f} jobs/s")
    short, long = BACKLOGS
    print(f"long / short: {medians[long] / medians[short]:.2f}", flush=True)


def memory(redis: BenchmarkRedis, _: int) -> None:
    """Redis memory per finished job, request and result of 300 bytes each."""
    redis.empty()
    before = redis.used_memory_bytes()
    script = HERE / "peers" / "respool_peer.py"
    for what in ("submit", "work"):
        command = [sys.executable, str(script), what, redis.url, str(MEMORY_JOBS)]
        subprocess.run(command, capture_output=True, check=True, timeout=300)
    per_job = (redis.used_memory_bytes() - before) / MEMORY_JOBS
    print(f"{per_job:,.0f} bytes per finished job ({REQUEST_BYTES}-byte request and result)")


def latency(redis: BenchmarkRedis, rounds: int) -> None:
    """From POST to the answer of an echo without latency, one request at a time, nothing else on."""
    redis.empty()
    samples = sorted(idle_latencies_ms(redis.url, requests=500 * rounds))
    median, p99 = statistics.median(samples), samples[int(len(samples) * 0.99)]
    print(
        f"POST to answer, idle: median {median:.1f} ms, p99 {p99:.1f} ms ({len(samples)} requests)"
    )


if __name__ == "__main__":
    main()
