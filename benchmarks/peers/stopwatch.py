"""What the peers' scripts share: the same load, the same clock, the same JSON line.

Each script runs in its peer's own environment, so this imports nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import NamedTuple
from urllib.parse import urlsplit

SUBMITTERS = 64
REQUEST = "q" * 300
RESULT = "r" * 300

LOOK_EVERY_S = 0.005  # How late the end of a worker's run, some seconds long, may be seen.


class Timed(NamedTuple):
    jobs: int
    seconds: float


class Way(NamedTuple):
    measure: Callable[[str, int], Timed]
    how: str


def main(peer: str, *, submit: Way, work: Way) -> None:
    """`SCRIPT submit|work REDIS_URL JOBS`: measures, and prints one line of JSON.

    `submit` puts JOBS jobs into an empty Redis; `work` finishes the JOBS jobs that it left there.
    """
    what, redis_url, jobs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    way = {"submit": submit, "work": work}[what]
    timed = way.measure(redis_url, jobs)
    line = {
        "peer": peer,
        "version": version(peer),
        "what": what,
        "n": timed.jobs,
        "seconds": timed.seconds,
        "per_second": timed.jobs / timed.seconds,
        "how": way.how,
    }
    print(json.dumps(line), flush=True)


async def submit_from_tasks(jobs: int, submit: Callable[[], Awaitable[object]]) -> Timed:
    """SUBMITTERS tasks, each waiting for its job to be accepted before it sends the next.

    Each task's first job is not timed: it opens a connection and loads scripts.
    """
    await asyncio.gather(*(submit() for _ in range(SUBMITTERS)))
    left = iter(range(jobs - SUBMITTERS))

    async def submitter() -> None:
        for _ in left:
            await submit()

    start = time.perf_counter()
    await asyncio.gather(*(submitter() for _ in range(SUBMITTERS)))
    return Timed(jobs - SUBMITTERS, time.perf_counter() - start)


def submit_from_threads(jobs: int, submit: Callable[[], object], threads: int) -> Timed:
    """As `submit_from_tasks`, for a peer whose client blocks. With one thread: a plain loop."""
    timed_jobs = jobs - threads
    left = iter(range(timed_jobs))  # Its next() is atomic.

    def submitter() -> None:
        for _ in left:
            submit()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: submit(), range(threads)))
        start = time.perf_counter()
        list(pool.map(lambda _: submitter(), range(threads)))
        return Timed(timed_jobs, time.perf_counter() - start)


class Backlog:
    """Times a worker: from its first job's start until Redis holds no unfinished job."""

    def __init__(self, redis_url: str, jobs: int, unfinished: str) -> None:
        """`unfinished` is the Redis command that answers 0 when the peer has finished every job."""
        self._redis_url = redis_url
        self._jobs = jobs
        self._unfinished = unfinished
        self._starts = itertools.count(1)  # Its next() is atomic: jobs may run in threads.
        self._all_started = False
        self._first_start = 0.0

    def run_job(self) -> str:
        """The body of every job."""
        started = next(self._starts)
        if started == 1:
            self._first_start = time.perf_counter()
        if started == self._jobs:
            self._all_started = True
        return RESULT

    async def time_task(self, worker: Coroutine[object, object, object]) -> Timed:
        """Runs the worker in this loop until the backlog is finished; RuntimeError if it ends before."""
        running = asyncio.ensure_future(worker)
        while not self._is_finished():
            if running.done():
                raise RuntimeError("the worker ended early") from running.exception()
            await asyncio.sleep(LOOK_EVERY_S)
        timed = self._timed()
        running.cancel()
        await asyncio.wait({running}, timeout=5)
        return timed

    def time_threads(self) -> Timed:
        """Blocks the calling thread until a worker in other threads has finished the backlog."""
        while not self._is_finished():
            time.sleep(LOOK_EVERY_S)
        return self._timed()

    def _is_finished(self) -> bool:
        """Asks Redis only once all jobs have started, so that looking costs the worker nothing."""
        return self._all_started and ask(self._redis_url, self._unfinished) == 0

    def _timed(self) -> Timed:
        """RuntimeError if a job left no result: every peer keeps each in a key of its own."""
        seconds = time.perf_counter() - self._first_start
        if (keys := ask(self._redis_url, "DBSIZE")) < self._jobs:
            raise RuntimeError(f"{self._jobs} jobs left only {keys} keys")
        return Timed(self._jobs, seconds)


def ask(redis_url: str, command: str) -> int:
    """The first integer in Redis's answer. On a socket of its own: the peers' clients differ."""
    url = urlsplit(redis_url)
    with socket.create_connection((url.hostname, url.port or 6379), timeout=10) as connection:
        connection.sendall(f"{command}\r\n".encode())
        for line in connection.makefile("rb"):
            if line.startswith(b":"):
                return int(line[1:])
            if line.startswith(b"-"):
                raise RuntimeError(f"{command}: {line.decode().strip()}")
    raise RuntimeError(f"{command}: no integer in the answer")
