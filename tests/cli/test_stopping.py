"""Stopping a role while it starts: at once, with status 0, and without a stack trace."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis

from cli.demo import is_installed, ollama_answers
from migrations.runner import migrate
from tests.cli.running import StartUp
from tests.processes import Process, respool
from tests.servers import RedisServer, free_port
from tests.upstream.fake import hangs, serving

PROMPTLY_SECONDS = 6.0
StartRole = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartRole]:
    """Starts roles that do not outlive the test."""
    with ExitStack() as stack:

        def start_one(role: str, **environment: str) -> Process:
            settings = {"API_PORT": "0", "WORKER_PORT": "0"} | environment
            return stack.enter_context(respool(tmp_path / f"{role}.log", role, **settings))

        yield start_one


def until_it_says(process: Process, words: str) -> None:
    until = time.monotonic() + 20
    while words not in process.output:
        assert time.monotonic() < until, process.output
        time.sleep(0.02)


def ends_promptly(process: Process, number: signal.Signals = signal.SIGTERM) -> None:
    """See that a signal ends the process soon, with status 0 and without a trace."""
    sent_at = time.monotonic()
    process.send(number)
    assert process.wait() == 0, process.output
    assert time.monotonic() - sent_at < PROMPTLY_SECONDS
    assert "Traceback" not in process.output


@pytest.mark.parametrize("role", ["api", "worker"])
def test_a_role_that_waits_for_redis_ends_at_once(start: StartRole, role: str) -> None:
    redis_url = f"redis://127.0.0.1:{free_port()}/0"
    process = start(role, REDIS_URL=redis_url, UPSTREAM_URL="echo:")
    until_it_says(process, "waiting up to")
    ends_promptly(process)


async def test_a_worker_that_waits_for_its_upstream_ends_at_once(
    server: RedisServer, client: Redis, start: StartRole
) -> None:
    await migrate(client)
    upstream_url = f"http://127.0.0.1:{free_port()}"
    process = start("worker", REDIS_URL=server.url, UPSTREAM_URL=upstream_url)
    until_it_says(process, "waiting for the upstream")
    ends_promptly(process)


async def test_a_worker_whose_upstream_does_not_answer_ends_at_once(
    server: RedisServer, client: Redis, start: StartRole
) -> None:
    await migrate(client)
    async with serving(hangs) as silent:
        settings = {"UPSTREAM_URL": silent.url, "UPSTREAM_KIND": "openai"}
        process = start("worker", REDIS_URL=server.url, **settings)
        async with asyncio.timeout(20):
            while not silent.exchanges:
                await asyncio.sleep(0.02)
        ends_promptly(process)


def test_up_ends_at_once_while_it_waits_for_its_upstream(start_up: StartUp) -> None:
    up = start_up(f"http://127.0.0.1:{free_port()}")
    until_it_says(up.process, "waiting for the upstream")
    ends_promptly(up.process, signal.SIGINT)
    assert left_running(up.data_dir) == []


@pytest.mark.skipif(not is_installed(), reason="the demo model is not installed: `make demo`")
@pytest.mark.skipif(ollama_answers(), reason="an Ollama answers, so `up` starts no demo model")
def test_up_ends_while_the_demo_model_loads_and_takes_it_along(start_up: StartUp) -> None:
    up = start_up("")
    until = time.monotonic() + 20
    while not (up.data_dir / "model.log").exists():
        assert time.monotonic() < until, up.process.output
        time.sleep(0.01)
    ends_promptly(up.process, signal.SIGINT)
    assert left_running(up.data_dir) == []


def left_running(data_dir: Path) -> list[str]:
    """The processes that were started with this data directory."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # Somebody else's, or gone.
            if str(data_dir).encode() in environment.read_bytes():
                found.append(environment.parent.name)
    return found


MOMENTS_MS = (0, 50, 100, 200, 400, 800)


@pytest.mark.parametrize("after_ms", MOMENTS_MS)
async def test_ctrl_c_at_any_moment_of_the_start_leaves_no_trace(
    start_up: StartUp, after_ms: int
) -> None:
    up = start_up()
    await up.process.until_begun()
    await asyncio.sleep(after_ms / 1_000)
    up.process.send(signal.SIGINT)
    assert up.process.wait() in {0, 130, -signal.SIGINT}, up.process.output
    assert "Traceback" not in up.process.output
    assert left_running(up.data_dir) == []


def test_up_says_how_many_jobs_it_waits_for(start_up: StartUp) -> None:
    up = start_up("echo://?tokens=20&tokens_per_second=20").until_ready()
    jobs = [up.submit("hello") for _ in range(2)]
    for job in jobs:
        while "claimed" not in up.events(job):
            time.sleep(0.02)
    up.process.send(signal.SIGINT)
    assert up.process.wait() == 0
    [line] = [line for line in up.process.output.splitlines() if "finished first" in line]
    assert "stopping: 2 jobs" in line


@pytest.mark.parametrize("after_ms", MOMENTS_MS)
async def test_a_role_that_is_told_to_stop_at_any_moment_of_its_start_has_stopped(
    start: StartRole, after_ms: int
) -> None:
    process = start("worker", REDIS_URL="redis://127.0.0.1:9/0", UPSTREAM_URL="echo:")
    await process.until_begun()
    await asyncio.sleep(after_ms / 1_000)
    ends_promptly(process)
