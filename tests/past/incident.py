"""An incident, made for real: workers that come and die, a burst, a pause, a cancel, a poisoned job.

It keeps what was done and when, by Redis's clock, so that whatever looks back can be held against it.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import redis

from tests.processes import Process
from tests.servers import RedisServer, free_port, running, valkey

WORKERS: Final = ("ada", "bob", "cyd")
SLOTS: Final = 2
LATENCY_MS: Final = 400  # Of a job of the burst.
BURST: Final = 100  # Ten seconds' work for the workers that are left.
LEASE_SECONDS: Final = 2
CHAT: Final = {"messages": [{"role": "user", "content": "one two three"}]}
_PATIENCE_SECONDS: Final = 60.0


class Incident:
    """What was done, and when: `at_ms["killed"]`."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self.server = server
        self.at_ms: dict[str, int] = {}
        self.burst: list[str] = []
        self.poisoned = self.cancelled = ""
        self.workers: dict[str, str] = {}  # By our name for it, the name on the log.
        self._folder = folder
        self._processes: dict[str, Process] = {}
        self._redis = redis.Redis.from_url(server.url)
        port = free_port()
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)
        assert self._start("migrate", "migrate").wait() == 0
        self._start("api", "api", API_PORT=str(port))
        self._start("projector", "projector")
        self._until(self._answers)

    def play(self) -> None:
        """Let it happen; 25 seconds."""
        for name in WORKERS:
            self._start_worker(name, latency_ms=LATENCY_MS)
        self._note("started")
        self.burst = [self._submit() for _ in range(BURST)]
        self.cancelled = self._submit(delay_seconds=600)
        self._note("burst")
        self._until(lambda: self._running_on("ada") == SLOTS)
        self._kill("ada")
        self._note("killed")
        self._until(lambda: self._status_of_worker("ada") == "lost")
        self._note("lost")
        self._http.post("/v1/queues/default/pause", json={"reason": "a look"}).raise_for_status()
        self._note("paused")
        self._until(lambda: not any(map(self._running_on, WORKERS)))
        self._http.post(f"/v1/jobs/{self.cancelled}/cancel").raise_for_status()
        self._note("idle")
        self._http.post("/v1/queues/default/resume").raise_for_status()
        self._note("resumed")
        self._poison()
        self._until(lambda: all(self._job(job)["status"] == "completed" for job in self.burst))
        self._note("over")

    def _poison(self) -> None:
        """A job that two workers die of, one after the other."""
        self._start_worker("dan", latency_ms=60_000, WORKER_QUEUES="special")
        self.poisoned = self._submit(queue="special")
        for name in ("dan", "eve"):
            self._until(lambda name=name: self._running_on(name) == 1)  # type: ignore[misc]
            self._kill(name)
            if name == "dan":
                self._start_worker("eve", latency_ms=60_000, WORKER_QUEUES="special")
        self._until(lambda: self._job(self.poisoned)["status"] == "failed")

    def close(self) -> None:
        for process in self._processes.values():
            if not process.has_ended:
                process.kill()
        self._http.close()
        self._redis.close()

    def now_ms(self) -> int:
        seconds, microseconds = self._redis.time()
        return int(seconds) * 1_000 + int(microseconds) // 1_000

    def _note(self, what: str) -> None:
        self.at_ms[what] = self.now_ms()

    def _start(self, name: str, *arguments: str, **settings: str) -> Process:
        common = {"REDIS_URL": self.server.url, "LEASE_SECONDS": str(LEASE_SECONDS)}
        process = Process(self._folder / f"{name}.log", *arguments, **common, **settings)
        self._processes[name] = process
        return process

    def _start_worker(self, name: str, latency_ms: int, **settings: str) -> None:
        queues = {"WORKER_QUEUES": "default", "MAX_DELIVERIES": "2"} | settings
        upstream = {"UPSTREAM_URL": f"echo://?latency_ms={latency_ms}&tokens=3"}
        slots = {"WORKER_CONCURRENCY": str(SLOTS), "WORKER_PORT": "0"}
        process = self._start(name, "worker", **queues, **upstream, **slots)
        self._until(lambda: self._name_of(process) is not None)
        self.workers[name] = self._name_of(process) or ""

    def _name_of(self, process: Process) -> str | None:
        shown = self._get("/v1/workers")["workers"]
        return next((one["name"] for one in shown if f"-{process.pid}-" in one["name"]), None)

    def _worker(self, name: str) -> dict[str, Any]:
        shown = self._get("/v1/workers")["workers"]
        found: dict[str, Any] = next(one for one in shown if one["name"] == self.workers[name])
        return found

    def _running_on(self, name: str) -> int:
        return len(self._worker(name)["running"])

    def _status_of_worker(self, name: str) -> str:
        return str(self._worker(name)["status"])

    def _kill(self, name: str) -> None:
        self._processes[name].send(signal.SIGKILL)

    def _submit(self, **fields: Any) -> str:
        body = {"model": "echo", "request": CHAT} | fields
        answer = self._http.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def _job(self, job_id: str) -> dict[str, Any]:
        return self._get(f"/v1/jobs/{job_id}")

    def _get(self, path: str) -> dict[str, Any]:
        answer = self._http.get(path)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def _answers(self) -> bool:
        try:
            return self._http.get("/v1/workers").is_success
        except httpx.TransportError:
            return False

    def _until(self, holds: Callable[[], bool]) -> None:
        until = time.monotonic() + _PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < until, "it never came to that"
            time.sleep(0.02)


@contextmanager
def incident(folder: Path) -> Iterator[Incident]:
    """The incident, played; its store is there until the block ends."""
    with running(valkey(folder)) as server:
        one = Incident(server, folder)
        try:
            one.play()
            yield one
        finally:
            one.close()
