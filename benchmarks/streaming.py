"""How well one API process streams: many answers at once, and many readers who wait.

    python -m benchmarks.streaming                 all of it, about a minute and a half
    python -m benchmarks.streaming --tokens 200    shorter answers

Answers: 100 streamed chat completions at once, each of 50 tokens a second, through one API and one worker
process, from an inference server whose tokens say when they were sent. Readers: 1,000 idle streams of
events on one API process, what they add to its memory, and how long an event takes to the last of them.
"""

import argparse
import asyncio
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec

from benchmarks.latency import free_port
from benchmarks.paced import MODEL
from benchmarks.readers import read
from benchmarks.roles import fresh_store, role, submit, until_alive
from benchmarks.server import BenchmarkRedis
from cli.loop import run
from core.store import EventStore

STREAMS = 100
TOKENS = 500
TOKENS_PER_SECOND = 50.0
READERS = 1_000
EVENTS = 20
_ASK = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "when?"}]}
_SAID = re.compile(rb'"content":"(\d+) "')
_PATIENCE_SECONDS = 60.0
_SETTLE_SECONDS = 2.0


class Token(NamedTuple):
    """By the machine's monotonic clock."""

    sent_ns: int
    came_ns: int

    @property
    def delay_ms(self) -> float:
        return (self.came_ns - self.sent_ns) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=STREAMS, help="how many answers at once")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="how many tokens an answer has")
    parser.add_argument("--readers", type=int, default=READERS, help="how many idle readers")
    arguments = parser.parse_args()
    with BenchmarkRedis() as redis:
        cores = os.cpu_count()
        print(f"{platform.processor() or platform.machine()}, {cores} cores, {redis.version}")
        run(_answers(redis, arguments.streams, arguments.tokens))
        run(_readers(redis, arguments.readers))


async def _answers(redis: BenchmarkRedis, streams: int, tokens: int) -> None:
    api_port, upstream_port = free_port(), free_port()
    async with fresh_store(redis.url) as store:
        with ExitStack() as stack:
            server = stack.enter_context(_paced(upstream_port, tokens))
            upstream = f"http://127.0.0.1:{upstream_port}"
            settings = {"UPSTREAM_URL": upstream, "WORKER_CONCURRENCY": str(streams)}
            api = stack.enter_context(role("api", redis.url, API_PORT=str(api_port)))
            worker = stack.enter_context(role("worker", redis.url, **settings))
            await until_alive(store, 1)
            await _until_served(api_port)
            pids = (api.pid, worker.pid, redis.pid, server.pid, os.getpid())
            before = [_cpu_seconds(pid) for pid in pids]
            came = await _one_round(api_port, streams)
            used = [_cpu_seconds(pid) - one for pid, one in zip(pids, before, strict=True)]
    _print_answers(came, streams, tokens, used)


async def _one_round(port: int, streams: int) -> list[Token]:
    """Ask for so many answers at once; their tokens."""
    came: list[Token] = []

    def on_data(data: bytes, now_ns: int) -> None:
        came.extend(Token(int(said), now_ns) for said in _SAID.findall(data))

    body = msgspec.json.encode(_ASK)
    readers = [await read(port, "/v1/chat/completions", on_data, body) for _ in range(streams)]
    async with asyncio.timeout(_PATIENCE_SECONDS):
        for reader in readers:
            await reader.ended.wait()
    return came


def _print_answers(came: list[Token], streams: int, tokens: int, used: list[float]) -> None:
    came.sort()
    wanted, expected = streams * TOKENS_PER_SECOND, streams * tokens
    last = came[-len(came) // 10 :]
    print(f"\n{streams} answers of {tokens} tokens at {TOKENS_PER_SECOND:g} tokens/s, all at once")
    print(f"  tokens                 {len(came):,} of {expected:,}")
    print(
        f"  sent by the server     {_rate([one.sent_ns for one in came]):,.0f}/s of {wanted:,.0f}/s"
    )
    print(f"  came to the clients    {_rate([one.came_ns for one in came]):,.0f}/s")
    print(f"  delay of a token       {_spread([one.delay_ms for one in came])}")
    print(f"  of the last tenth      {_spread([one.delay_ms for one in last])}")
    names = ("API", "worker", "Redis", "inference server", "clients")
    shares = (
        f"{name} {1e6 * seconds / len(came):.0f}" for name, seconds in zip(names, used, strict=True)
    )
    print(f"  CPU, us for a token    {', '.join(shares)}")


async def _readers(redis: BenchmarkRedis, readers: int) -> None:
    """Idle readers on an API of their own: each of a job of its own, and all of everything."""
    for name, path in (
        ("a job of its own", "/v1/jobs/{}/events"),
        ("all events", "/v1/events"),
    ):
        port = free_port()
        async with fresh_store(redis.url) as store:
            with role("api", redis.url, API_PORT=str(port)) as api:
                await _until_served(port, "/healthz")
                jobs = [await submit(store) for _ in range(readers)]
                before = _resident_bytes(api.pid)
                came = _Arrivals()
                streams = [await read(port, path.format(job), came.on_data) for job in jobs]
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    for stream in streams:
                        await stream.begun.wait()
                await asyncio.sleep(_SETTLE_SECONDS)
                each = (_resident_bytes(api.pid) - before) / readers
                print(f"\n{readers:,} idle readers of {name}, one API")
                print(f"  memory of each         {each / 1024:.1f} KiB")
                if "{}" not in path:
                    await _print_arrivals(store, came, readers)
                for stream in streams:
                    stream.close()


class _Arrivals:
    """When each reader was sent something since the last event."""

    def __init__(self) -> None:
        self.times_ns: list[int] = []

    def on_data(self, data: bytes, now_ns: int) -> None:
        if b"event: submitted" in data:
            self.times_ns.append(now_ns)


async def _print_arrivals(store: EventStore, came: _Arrivals, readers: int) -> None:
    first, last = [], []
    for _ in range(EVENTS):
        came.times_ns.clear()
        began = time.monotonic_ns()
        await submit(store)
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while len(came.times_ns) < readers:
                await asyncio.sleep(0.005)
        first.append((min(came.times_ns) - began) / 1e6)
        last.append((max(came.times_ns) - began) / 1e6)
        await asyncio.sleep(0.1)
    print(f"  event to first reader  {statistics.median(first):.1f} ms, median of {EVENTS} events")
    print(f"  event to last reader   {statistics.median(last):.1f} ms, {max(last):.1f} ms at most")


def _rate(times_ns: list[int]) -> float:
    return len(times_ns) / ((max(times_ns) - min(times_ns)) / 1e9)


def _spread(delays_ms: list[float]) -> str:
    cuts = statistics.quantiles(delays_ms, n=100)
    return f"{cuts[49]:.1f} ms median, {cuts[98]:.1f} ms p99, {max(delays_ms):.1f} ms at most"


@contextmanager
def _paced(port: int, tokens: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "benchmarks.paced", str(port), str(tokens)]
    process = subprocess.Popen([*command, str(TOKENS_PER_SECOND)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def _until_served(port: int, path: str = "/readyz") -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS), httpx.AsyncClient() as client:
        while True:
            with suppress(httpx.HTTPError):
                if (await client.get(f"http://127.0.0.1:{port}{path}")).is_success:
                    return
            await asyncio.sleep(0.05)


def _cpu_seconds(pid: int) -> float:
    """What a process has used of the processors so far."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_bytes(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
