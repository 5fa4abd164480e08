"""An API and workers as real processes, which export to a collector of the test's."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from redis.asyncio import Redis

from migrations.runner import migrate
from tests.processes import Process, respool
from tests.servers import RedisServer, free_port
from tests.tracing.collector import Collector, collecting

CHAT = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}]}
_PATIENCE_SECONDS = 20.0

Answer = TypeVar("Answer")


class Site:
    """Starts roles that do not outlive the test, and asks the API."""

    def __init__(self, stack: ExitStack, folder: Path, redis_url: str) -> None:
        self._stack = stack
        self._folder = folder
        self.redis_url = redis_url
        self.environment: dict[str, str] = {}
        port = free_port()
        self._api_port = str(port)
        self.http = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}"))

    def export_to(self, url: str, **environment: str) -> None:
        """Have what is started from now on export its spans there, soon."""
        self.environment |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            **environment,
        }

    def api(self, **environment: str) -> Process:
        process = self._start("api", API_PORT=self._api_port, **environment)
        self._until("/healthz", process)
        return process

    def up(self, **environment: str) -> Process:
        """An API and a worker in one process, which claims by now."""
        settings = {"API_PORT": self._api_port, "WORKER_PORT": "0", "UPSTREAM_URL": "echo:"}
        process = self._start("up", **settings | environment)
        self._until("/readyz", process)
        return process

    def worker(self, upstream_url: str = "echo:", **environment: str) -> Process:
        """A worker that claims by now."""
        defaults = {"WORKER_PORT": str(free_port()), "LEASE_SECONDS": "1"}
        settings = {"UPSTREAM_URL": upstream_url} | defaults | environment
        process = self._start("worker", **settings)
        self._until(f"http://127.0.0.1:{settings['WORKER_PORT']}/readyz", process)
        return process

    def chat(self, **headers: str) -> httpx.Response:
        """Ask as a client of OpenAI's does."""
        answer = self.http.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer

    def submit(self, wait: int = 0, **fields: Any) -> dict[str, Any]:
        """Submit a job; it, perhaps once it has ended."""
        body = {"model": "echo", "request": {"messages": CHAT["messages"]}} | fields
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        answer = self.http.post("/v1/jobs", json=body, headers=headers, timeout=wait + 5)
        assert answer.status_code in {200, 202}, answer.text
        job: dict[str, Any] = answer.json()
        return job

    async def aside(self, act: Callable[..., Answer], *arguments: Any, **named: Any) -> Answer:
        """Let it wait in a thread, for a test whose own loop has to answer somebody meanwhile."""
        return await asyncio.to_thread(act, *arguments, **named)

    def ended(self, job_id: str) -> dict[str, Any]:
        """A job once it has ended."""
        job: dict[str, Any] = self.http.get(f"/v1/jobs/{job_id}?wait=20", timeout=25).json()
        assert job["finished_at"] is not None, job
        return job

    def _start(self, role: str, **environment: str) -> Process:
        settings = {"REDIS_URL": self.redis_url} | self.environment | environment
        log_path = self._folder / f"{role}.log"
        return self._stack.enter_context(respool(log_path, role, **settings))

    def _until(self, url: str, process: Process) -> None:
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                if self.http.get(url).is_success:
                    return
            except httpx.HTTPError:
                pass
            assert not process.has_ended, process.output
            assert time.monotonic() < until, process.output
            time.sleep(0.02)


@pytest.fixture
async def site(server: RedisServer, client: Redis, tmp_path: Path) -> AsyncIterator[Site]:
    await migrate(client)
    with ExitStack() as stack:
        yield Site(stack, tmp_path, server.url)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector
