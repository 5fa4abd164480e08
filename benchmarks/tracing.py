"""What spans cost, when they are exported and when they are not: no-op jobs/s, and an idle answer's time.

    python -m benchmarks.tracing --rounds 5

Rounds alternate between off, every trace, and one trace in a hundred; the collector is a process of its
own that throws away what it gets. Medians are compared, because machines are noisy; in brackets as parts of
those with spans off. CPU time says something also on a machine that is busy with something else.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.latency import idle
from benchmarks.server import BenchmarkRedis

PEER = Path(__file__).parent / "peers" / "respool_peer.py"
JOBS = 20_000
REQUESTS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    rounds = parser.parse_args().rounds
    with BenchmarkRedis() as redis, _collector() as url:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
        sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
        modes = {
            "off": {},
            "every trace": endpoint,
            "1 % of traces": endpoint | sampler | {"OTEL_TRACES_SAMPLER_ARG": "0.01"},
        }
        measured: dict[str, list[tuple[float, float, float]]] = {mode: [] for mode in modes}
        for _ in range(rounds):
            for mode, environment in modes.items():
                with _environment(environment):
                    redis.empty()
                    jobs_per_second = _jobs_per_second(redis.url)
                    redis.empty()
                    latencies, cpu_ms = idle(redis.url, REQUESTS)
                measured[mode].append((jobs_per_second, statistics.median(latencies), cpu_ms))
                print(mode, *(f"{figure:,.2f}" for figure in measured[mode][-1]), flush=True)
    print("\n| spans | no-op jobs/s | POST to answer, idle | CPU for that, all of `respool up` |")
    print("|---|---|---|---|")
    off = _medians(measured["off"])
    for mode in modes:
        rate, latency, cpu = (
            f"{figure:,.2f} ({figure / before:.2f})"
            for figure, before in zip(_medians(measured[mode]), off, strict=True)
        )
        print(f"| {mode} | {rate} | {latency} ms | {cpu} ms |")


def _medians(rounds: list[tuple[float, float, float]]) -> list[float]:
    return [statistics.median(figures) for figures in zip(*rounds, strict=True)]


def _jobs_per_second(redis_url: str) -> float:
    for what in ("submit", "work"):
        command = [sys.executable, str(PEER), what, redis_url, str(JOBS)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return float(json.loads(line)["per_second"])


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in settings:
            del os.environ[name]


@contextmanager
def _collector() -> Iterator[str]:
    """The URL of a collector, until the block ends."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_collect, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def _collect(tell: Connection) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tell.send(f"http://127.0.0.1:{server.server_port}")
    server.serve_forever()


if __name__ == "__main__":
    main()
