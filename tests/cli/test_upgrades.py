"""Upgrades and ways back as an operator has them: real processes of several releases on one store."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from core.keys import META, MIGRATION_LOCK, ShardKeys
from core.records import Bounds
from core.store import EventStore
from core.upcast import READABLE_FROM
from migrations.plan import shards_of
from migrations.runner import migrate
from projections import rows
from projections.building import clock_ms, log_lengths
from projections.generations import Role, all_of, drop_abandoned, serving
from projections.registry import fingerprint
from tests.processes import Process, respool
from tests.projections.views import catch_up, check_views, contents, fold_of_the_log, lives
from tests.releases.next import CHANGES, SCHEMA, Change, build
from tests.releases.others import OTHER_VIEWS, WITHOUT_VIEWS
from tests.servers import RedisServer, free_port

CHAT = {"messages": [{"role": "user", "content": "one two three"}]}
OTHER = fingerprint().replace(f"rows.{rows.VERSION} ", f"rows.{rows.VERSION + 1} ")
PATIENCE_SECONDS = 60.0
HOUR_MS = 3_600_000
LIVES = 2_000
KILLS = 4


class Site:
    """A server, and programs on it that end with the test."""

    def __init__(self, server: RedisServer, folder: Path, stack: ExitStack) -> None:
        self._url = server.url
        self._folder = folder
        self._stack = stack
        self._started = 0
        self.clients: list[httpx.AsyncClient] = []

    def release(self, name: str, changes: tuple[Change, ...]) -> dict[str, str]:
        """The environment in which `respool` is another release."""
        return {"PYTHONPATH": str(build(self._folder / name, changes))}

    def start(self, *arguments: str, **environment: str) -> Process:
        self._started += 1
        path = self._folder / f"{arguments[0]}-{self._started}.log"
        settings = {"REDIS_URL": self._url, "WORKER_PORT": "0", "UPSTREAM_URL": "echo:"}
        return self._stack.enter_context(respool(path, *arguments, **settings | environment))

    def run(self, *arguments: str, **environment: str) -> str:
        """Run a command to its end; what it printed."""
        process = self.start(*arguments, **environment)
        assert process.wait() == 0, process.output
        return process.output

    async def api(self, **environment: str) -> httpx.AsyncClient:
        """A client of an API that is started for it."""
        port = free_port()
        process = self.start("api", API_PORT=str(port), **environment)
        http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS)
        self.clients.append(http)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await _answers(http):
                assert not process.has_ended, process.output
                await asyncio.sleep(0.05)
        return http


async def _answers(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/healthz")).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture
async def site(server: RedisServer, client: Redis, tmp_path: Path) -> AsyncIterator[Site]:
    with ExitStack() as stack:
        site = Site(server, tmp_path, stack)
        yield site
        for http in site.clients:
            await http.aclose()


async def submitted(http: httpx.AsyncClient) -> str:
    """A job that was accepted."""
    answer = await http.post("/v1/jobs", json={"model": "echo", "request": CHAT})
    assert answer.status_code == 202, answer.text
    job: str = answer.json()["id"]
    return job


async def completed(http: httpx.AsyncClient, job: str) -> None:
    answer = await http.get(f"/v1/jobs/{job}", params={"wait": 30})
    assert answer.json()["status"] == "completed", answer.text


async def lists(http: httpx.AsyncClient, *jobs: str) -> bool:
    """Whether these jobs are among the newest that it lists."""
    answer = await http.get("/v1/jobs", params={"limit": 100})
    assert answer.status_code == 200, answer.text
    return set(jobs) <= {job["id"] for job in answer.json()["jobs"]}


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():
            await asyncio.sleep(0.02)


async def worked_on(site: Site, **environment: str) -> str:
    """A job that an API and a worker of a release have taken and completed; they have ended since."""
    http = await site.api(**environment)
    worker = site.start("worker", **environment)
    await until(partial(is_ready, http))
    job = await submitted(http)
    await completed(http, job)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.output
    return job


async def is_ready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/readyz")).is_success


@asynccontextmanager
async def a_long_log(client: Redis) -> AsyncIterator[EventStore]:
    """A migrated store whose views take a while to be folded."""
    await migrate(client)
    store = EventStore(client, 1, Bounds(waiting_max=10**9, scheduled_max=10**9))
    for seed in range(LIVES // 500):
        await lives(store, 500, Random(seed))
    await catch_up(store, 1_000)
    yield store


async def being_built(store: EventStore) -> bool:
    """Whether views of the other release are half built."""
    for one, role in (await all_of(store)).items():
        if role is Role.BUILDING and one.fingerprint == OTHER:
            return (await one.view(store, 0).checkpoint()).sequence > 0
    return False


async def test_views_are_rebuilt_for_another_release_while_everything_goes_on(
    site: Site, client: Redis
) -> None:
    async with a_long_log(client) as store:
        old = await site.api()
        site.start("worker")
        site.start("projector")
        await until(partial(is_ready, old))
        other = site.release("other", OTHER_VIEWS)
        plan = json.loads(site.run("migrate", "--plan", "--json", **other))
        [step] = plan["to_apply"]
        assert step["kind"] == "views"
        assert step["changed"] == [f"rows {rows.VERSION} is {rows.VERSION + 1} now"]
        migration = site.start("migrate", **other)
        await until(lambda: being_built(store))
        migration.send(signal.SIGSTOP)
        meanwhile = [await submitted(old) for _ in range(5)]
        await asyncio.gather(*(completed(old, job) for job in meanwhile))
        await until(lambda: lists(old, *meanwhile))
        assert await being_built(store)
        migration.send(signal.SIGCONT)
        assert migration.wait() == 0, migration.output
        assert "applied: views" in migration.output
        assert (
            f"still there: views of generation 1 ({fingerprint()}): it serves another release"
            in (migration.output)
        )
        new = await site.api(**other)
        site.start("projector", **other)
        later = await submitted(old)
        for http in (old, new):
            await until(partial(lists, http, *meanwhile, later))
        ours, theirs = await serving(store), await serving(store, OTHER)
        assert await all_of(store) == {ours: Role.SERVING, theirs: Role.SERVING}


async def test_what_a_release_has_half_built_that_was_then_rolled_back_does_not_stay(
    site: Site, client: Redis
) -> None:
    async with a_long_log(client) as store:
        other = site.release("other", OTHER_VIEWS)
        migration = site.start("migrate", **other)
        await until(lambda: being_built(store))
        migration.send(signal.SIGKILL)
        migration.wait()
        said = json.loads(site.run("migrate", "--json"))
        assert said["applied"] == []
        [left] = said["other_views"]
        assert (left["views"], left["role"]) == (OTHER, "building")
        [dropped] = await drop_abandoned(store, await clock_ms(store) + 2 * HOUR_MS, HOUR_MS)
        assert dropped.fingerprint == OTHER
        assert json.loads(site.run("migrate", "--json"))["other_views"] == []
        await check_views(store)


async def test_a_migration_that_is_killed_again_and_again_ends_as_one_that_was_not(
    site: Site, client: Redis
) -> None:
    async with a_long_log(client) as store:
        other = site.release("other", OTHER_VIEWS)
        reached = 0
        for _ in range(KILLS):
            migration = site.start("migrate", **other)

            async def is_further(than: int = reached) -> bool:
                for one in await all_of(store):
                    if one.fingerprint == OTHER:
                        return (await one.view(store, 0).checkpoint()).sequence > than
                return False

            await until(is_further)
            migration.send(signal.SIGKILL)
            migration.wait()
            await client.delete(MIGRATION_LOCK)  # As it does by itself, later.
            [one] = [one for one in await all_of(store) if one.fingerprint == OTHER]
            reached = (await one.view(store, 0).checkpoint()).sequence
        site.run("migrate", **other)
        assert await serving(store, OTHER) == one
        assert reached < (await log_lengths(store))[0], "none was killed at its work"
        view = one.view(store, 0)
        assert await contents(store, view) == await fold_of_the_log(store, view)
        assert (await view.checkpoint()).sequence == (await log_lengths(store))[0]


async def test_of_two_at_once_one_works_and_the_other_says_for_whom_it_waits(
    site: Site, client: Redis
) -> None:
    async with a_long_log(client) as store:
        other = site.release("other", OTHER_VIEWS)
        first = site.start("migrate", **other)
        await until(lambda: being_built(store))
        first.send(signal.SIGSTOP)
        second = site.start("migrate", **other)

        async def is_told() -> bool:
            return f"waiting for process {first.pid} on " in second.output

        await until(is_told)
        first.send(signal.SIGCONT)
        assert (first.wait(), second.wait()) == (0, 0)
        assert "applied: views" in first.output
        assert "nothing to apply" in second.output


async def test_one_that_is_told_to_stop_says_that_it_goes_on_where_it_was(
    site: Site, client: Redis
) -> None:
    async with a_long_log(client) as store:
        other = site.release("other", OTHER_VIEWS)
        migration = site.start("migrate", **other)
        await until(lambda: being_built(store))
        migration.send(signal.SIGTERM)
        assert migration.wait() == 1
        assert "respool: stopped; run it again, and it goes on where it was" in migration.output
        assert not await client.exists(MIGRATION_LOCK)
        [step] = json.loads(site.run("migrate", "--plan", "--json", **other))["to_apply"]
        assert 0 < step["entries"] < step["of"]


async def test_a_store_is_taken_back_for_an_earlier_release_and_brought_up_again(
    site: Site, client: Redis
) -> None:
    await client.execute_command("FUNCTION", "FLUSH")
    earlier = site.release("earlier", WITHOUT_VIEWS)
    assert "views" not in site.run("migrate", **earlier)
    first = await worked_on(site, **earlier)
    assert "applied: views" in site.run("migrate")
    second = await worked_on(site)
    refused = site.start("migrate", **earlier)
    assert refused.wait() == 1
    assert "respool migrate --to 1" in refused.output
    assert "undone: migration 2" in site.run("migrate", "--to", "1")
    store = EventStore(client, await shards_of(client), Bounds())
    assert await all_of(store) == {}
    third = await worked_on(site, **earlier)
    site.run("migrate")
    await check_views(store)
    view = (await serving(store)).view(store, 0)
    shown = await view.rows([first, second, third])
    assert [row.ended_ms is not None for row in shown.values()] == [True, True, True]
    site.run("replay", "verify")


UNREADABLE = Change(
    "core/upcast.py",
    f"READABLE_FROM: Final[int] = {READABLE_FROM}\n",
    f"READABLE_FROM: Final[int] = {SCHEMA}\n",
)


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "not readable"])
async def test_a_store_that_a_newer_schema_was_written_to_is_not_taken_back(
    site: Site, client: Redis, is_open: bool
) -> None:
    newer = site.release("newer", CHANGES if is_open else (*CHANGES, UNREADABLE))
    site.run("migrate", **newer)
    job = await worked_on(site, **newer)
    if is_open:
        await client.hset(ShardKeys(0).head(job), "status", "queued")
    refused = site.start("migrate", "--to", "1", **newer)
    assert refused.wait() == 1
    assert f"written under schema {SCHEMA}" in refused.output
    assert await client.hget(META, "migration") == b"2"


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("0", "migration 1 (the store: its shard count and its incarnation) cannot be undone"),
        ("7", "nothing to undo down to 7"),
    ],
)
async def test_a_way_back_that_there_is_not_is_said(
    site: Site, client: Redis, to: str, said: str
) -> None:
    await migrate(client)
    refused = site.start("migrate", "--to", to)
    assert refused.wait() == 1
    assert said in refused.output
    assert "Traceback" not in refused.output
