"""What spans cost, when they are exported and when they are not: no-op jobs/s, and an idle answer.

    python -m benchmarks.tracing --rounds 5

Rounds alternate between off, every trace, and one trace in a hundred; the collector is a process of its
own that throws away what it gets. Medians are compared, because machines are noisy.
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

from benchmarks.latency import idle_latencies_ms
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
        rates: dict[str, list[float]] = {mode: [] for mode in modes}
        latencies: dict[str, list[float]] = {mode: [] for mode in modes}
        for _ in range(rounds):
            for mode, environment in modes.items():
                with _environment(environment):
                    redis.empty()
                    rates[mode].append(_jobs_per_second(redis.url))
                    redis.empty()
                    latencies[mode].append(
                        statistics.median(idle_latencies_ms(redis.url, REQUESTS))
                    )
                print(f"{mode}: {rates[mode][-1]:,.0f}/s, {latencies[mode][-1]:.2f} ms", flush=True)
    print(
        "\n| spans | no-op jobs/s | of off | POST to answer, idle | of off |\n|---|---|---|---|---|"
    )
    for mode in modes:
        rate, latency = statistics.median(rates[mode]), statistics.median(latencies[mode])
        of_rate = rate / statistics.median(rates["off"])
        of_latency = latency / statistics.median(latencies["off"])
        print(f"| {mode} | {rate:,.0f} | {of_rate:.2f} | {latency:.2f} ms | {of_latency:.2f} |")


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
