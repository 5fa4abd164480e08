"""One role a process: an API and a worker on one Redis, and what they say when something is missing."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from cli import opening
from cli.roles import projector as role_projector
from core.errors import StoreError, StoreNotReady, StoreUnavailable
from core.records import Bounds
from core.settings import Settings
from core.store import EventStore
from migrations.runner import migrate
from tests.given import a_job
from tests.processes import Process, respool, until_ok
from tests.servers import RedisServer, free_port, valkey


class Start:
    """Starts roles that do not outlive the test."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder

    def __call__(self, *arguments: str, **environment: str) -> Process:
        log_path = self._folder / f"{arguments[0]}.log"
        return self._stack.enter_context(respool(log_path, *arguments, **environment))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        yield Start(stack, tmp_path)


async def test_roles_wait_for_the_migrations_and_then_work_together(
    server: RedisServer, client: Redis, start: Start
) -> None:
    api_port, worker_port = free_port(), free_port()
    common = {"REDIS_URL": server.url}
    start("worker", **common, UPSTREAM_URL="echo:", WORKER_PORT=str(worker_port))
    api = start("api", **common, API_PORT=str(api_port))
    plan = start("migrate", "--plan", **common)
    assert plan.wait() == 0
    assert "to apply: migration 1" in plan.output
    assert await client.dbsize() == 0
    migration = start("migrate", **common)
    assert migration.wait() == 0
    assert "applied: migration 1" in migration.output
    until_ok(f"http://127.0.0.1:{api_port}/readyz")
    health = until_ok(f"http://127.0.0.1:{worker_port}/readyz").json()
    assert health["status"] == "ready"
    assert health["models"] == ["echo"]
    body = {"model": "echo", "request": {"messages": [{"role": "user", "content": "hi"}]}}
    url = f"http://127.0.0.1:{api_port}/v1/jobs"
    job = httpx.post(url, json=body, headers={"Prefer": "wait=20"}).json()
    assert job["status"] == "completed"
    assert not api.has_ended


def test_a_worker_that_cannot_claim_is_not_ready(tmp_path: Path, start: Start) -> None:
    server = valkey(tmp_path)
    server.start()
    port = free_port()
    assert start("migrate", REDIS_URL=server.url).wait() == 0
    start("worker", REDIS_URL=server.url, UPSTREAM_URL="echo:", WORKER_PORT=str(port))
    until_ok(f"http://127.0.0.1:{port}/readyz")
    server.stop()
    until = time.monotonic() + 30
    while httpx.get(f"http://127.0.0.1:{port}/readyz").status_code != 503:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").is_success


async def test_a_projectors_check_fails_while_no_view_serves_or_views_are_far_behind(
    server: RedisServer,
    client: Redis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(role_projector, "_BEHIND_ENTRIES_MAX", 1)
    with pytest.raises(StoreNotReady, match="run `respool migrate`"):
        await role_projector._check(server.url)
    await migrate(client)
    store = EventStore(client, 1, Bounds())
    await a_job(store)
    await role_projector._check(server.url)
    assert "the views are 1 events behind" in capsys.readouterr().out
    await a_job(store)
    with pytest.raises(StoreError, match="the views are 2 events behind"):
        await role_projector._check(server.url)


async def test_a_projectors_check_ends_at_once(
    server: RedisServer, client: Redis, start: Start
) -> None:
    assert start("migrate", REDIS_URL=server.url).wait() == 0
    check = start("projector", "--check", REDIS_URL=server.url)
    assert check.wait() == 0
    assert "the views are 0 events behind" in check.output


@pytest.mark.parametrize("role", ["api", "worker", "migrate"])
def test_a_role_without_a_store_says_which_variable_it_needs(role: str, start: Start) -> None:
    process = start(role)
    assert process.wait() == 1
    assert "needs REDIS_URL" in process.output


def test_a_worker_without_an_upstream_says_so(server: RedisServer, start: Start) -> None:
    process = start("worker", REDIS_URL=server.url)
    assert process.wait() == 1
    assert "needs UPSTREAM_URL" in process.output


async def test_a_redis_that_is_not_there_is_waited_for_and_then_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "STORE_WAIT_SECONDS", 0.1)
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    with pytest.raises(StoreUnavailable) as error:
        async with opening.open_store(Settings(), url, 1.0):
            pass
    assert "REDIS_URL is redis://:***@127.0.0.1" in str(error.value)
    assert "secret" not in str(error.value)


async def test_a_redis_that_would_delete_the_log_is_refused(
    server: RedisServer, client: Redis
) -> None:
    await migrate(client)
    await client.config_set("maxmemory", "1gb")
    await client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(StoreNotReady, match="noeviction"):
            async with opening.open_store(Settings(), server.url, 1.0):
                pass
    finally:
        await client.config_set("maxmemory-policy", "noeviction")
