"""All of Respool on a cluster: while workers die, slots move and nodes are away."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from consumers.claims import Claims
from core.durability import OfEachShard, Rounds
from core.errors import NotDurable, StoreNotReady, StoreUnavailable
from core.nodes import spread
from core.persistence import require_syncing
from core.records import Bounds
from core.redis import connect
from core.store import EventStore
from migrations.runner import migrate, shard_count
from projections.building import build
from projections.replay.verify import verify
from tests.clustered.conftest import SHARDS
from tests.clustered.nodes import Cluster
from tests.given import a_job, new_id, submitted
from tests.processes import Process, respool, until_ok
from tests.projections.views import catch_up, lives
from tests.servers import free_port

MESSAGES: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
CHAT = {"model": "echo", "request": MESSAGES}


@pytest.fixture
async def spread_store(client: Redis) -> EventStore:
    await migrate(client, SHARDS)
    return EventStore(client, SHARDS, Bounds())


async def findings(store: EventStore) -> list[str]:
    report, _ = await verify(store)
    return [str(one) for one in report.findings]


async def test_its_shards_are_on_all_nodes(client: Redis, spread_store: EventStore) -> None:
    assert await spread(client, [keys.prefix for keys in spread_store.shards]) == (3, ())
    _, idle = await spread(client, [spread_store.shards[0].prefix])
    assert len(idle) == 2


async def test_everything_that_can_happen_to_jobs_is_as_the_log_says(
    spread_store: EventStore,
) -> None:
    await lives(spread_store, 100, Random(1))
    await Claims(spread_store, "worker-0", (), lambda: {"echo", "llama3.2:1b"}).take(1_000)
    await catch_up(spread_store)
    assert await findings(spread_store) == []
    await build(spread_store)
    assert await findings(spread_store) == []


@pytest.fixture
def started(server: Cluster, client: Redis, tmp_path: Path) -> Iterator[dict[str, Process | str]]:
    """The product's own processes; `client` has emptied the cluster."""
    port = str(free_port())
    common = {"REDIS_URL": server.url, "LEASE_SECONDS": "2"}
    with ExitStack() as stack:

        def start(name: str, *arguments: str, **settings: str) -> Process:
            log_path = tmp_path / f"{name}.log"
            return stack.enter_context(respool(log_path, *arguments, **common, **settings))

        assert start("migrate", "migrate", "--shards", str(SHARDS)).wait() == 0
        upstream = "echo://?latency_ms=200"
        workers = {
            name: start(
                name, "worker", UPSTREAM_URL=upstream, WORKER_CONCURRENCY="2", WORKER_PORT="0"
            )
            for name in ("one", "two")
        }
        api = start("api", "api", API_PORT=port)
        projector = start("projector", "projector")
        until_ok(f"http://127.0.0.1:{port}/readyz")
        yield {**workers, "api": api, "projector": projector, "url": f"http://127.0.0.1:{port}"}


async def test_jobs_outlive_a_worker_that_is_killed(
    started: dict[str, Process | str], client: Redis
) -> None:
    async with httpx.AsyncClient(base_url=str(started["url"])) as http:
        answers = [await http.post("/v1/jobs", json=CHAT) for _ in range(24)]
        jobs = [answer.json()["id"] for answer in answers]
        assert len({job[-2:] for job in jobs}) > 1, "on several shards"
        worker = started["one"]
        assert isinstance(worker, Process)
        worker.send(signal.SIGKILL)
        for job in jobs:
            shown = (await http.get(f"/v1/jobs/{job}", params={"wait": 30}, timeout=40)).json()
            assert shown["status"] == "completed"
        listed = await http.get(
            "/v1/jobs", params={"limit": 100, "min_position": shown["position_in_log"]}
        )
        assert {job["id"] for job in listed.json()["jobs"]} == set(jobs)
        asked = MESSAGES | {"model": "echo", "stream": True}
        stream = await http.post("/v1/chat/completions", json=asked)
        assert stream.text.rstrip().endswith("data: [DONE]")
    store = EventStore(client, await shard_count(client), Bounds())
    await catch_up(store)
    assert await findings(store) == []
    for process in started.values():
        if isinstance(process, Process):
            assert "Traceback" not in process.output


@asynccontextmanager
async def submitting(store: EventStore) -> AsyncIterator[list[str]]:
    """Jobs on all shards, for as long as the block lasts; those that were acknowledged."""
    acknowledged: list[str] = []

    async def submit(shard: int) -> None:
        while True:
            job = new_id(shard)
            try:
                await store.submit(job, submitted())
                acknowledged.append(job)
            except StoreUnavailable:
                continue
            await asyncio.sleep(0.002)

    tasks = [asyncio.create_task(submit(keys.shard)) for keys in store.shards]
    try:
        yield acknowledged
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_are_there(store: EventStore, jobs: list[str]) -> None:
    assert all(await store.load_many(jobs)), "one that was acknowledged is gone"
    await catch_up(store)
    assert await findings(store) == []


async def test_a_slot_that_moves_takes_its_shard_along_and_loses_nothing(
    server: Cluster, spread_store: EventStore
) -> None:
    moved = spread_store.shards[0].log
    source = server.having(moved)
    to = next(node for node in server.nodes if node is not source)
    async with submitting(spread_store) as jobs:
        await reached(jobs, 100)
        try:
            await asyncio.to_thread(server.move, moved, to)
            assert server.having(moved) is to
            await reached(jobs, len(jobs) + 100, shard=0)
        finally:
            await asyncio.to_thread(server.move, moved, source)
        await reached(jobs, len(jobs) + 100, shard=0)
    await all_are_there(spread_store, jobs)


async def reached(jobs: list[str], count: int, shard: int | None = None) -> None:
    """Wait until so many were acknowledged, one of the last on that shard."""
    async with asyncio.timeout(30):
        while len(jobs) < count or not (
            shard is None or any(job.endswith(new_id(shard)[-2:]) for job in jobs[-20:])
        ):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_node_that_is_away_is_missed_by_its_own_shards_alone(
    server: Cluster, spread_store: EventStore, harm: signal.Signals
) -> None:
    there, away = spread_store.shards[0], spread_store.shards[1]
    node = server.having(away.log)
    assert server.having(there.log) is not node
    async with submitting(spread_store) as jobs:
        await reached(jobs, 100)
        if harm is signal.SIGKILL:
            node.stop()
        else:
            node.send(signal.SIGSTOP)
        await a_job(spread_store, shard=there.shard)
        with pytest.raises(StoreUnavailable):
            await a_job(spread_store, shard=away.shard)
        if harm is signal.SIGKILL:
            node.start()
        else:
            node.send(signal.SIGCONT)
        await asyncio.to_thread(server.until_agreed)
        await reached(jobs, len(jobs) + 200, shard=away.shard)
    await all_are_there(spread_store, jobs)


async def test_a_write_is_confirmed_by_the_node_that_has_it(client: Redis) -> None:
    await migrate(client, SHARDS)
    seen = await require_syncing(client, "always", replicated=False)
    barrier = OfEachShard(lambda: Rounds(client, seen, 0, 2.0))
    store = EventStore(client, SHARDS, Bounds(), barrier)
    await asyncio.gather(*(a_job(store, shard=shard) for shard in range(SHARDS) for _ in range(20)))
    impossible = OfEachShard(lambda: Rounds(client, seen, 1, 0.2))
    with pytest.raises(NotDurable, match="0 replicas"):
        await a_job(EventStore(client, SHARDS, Bounds(), impossible), shard=1)


async def test_a_url_of_one_server_that_is_a_node_says_what_it_has_to_be(
    server: Cluster, spread_store: EventStore
) -> None:
    elsewhere = next(n for n in server.nodes if n is not server.having(spread_store.shards[0].log))
    client = connect(elsewhere.url)
    with pytest.raises(StoreUnavailable, match=r"it has to be redis-cluster://"):
        await shard_count(client)
    await client.aclose()


async def test_a_primary_without_the_functions_is_lacking_them(
    server: Cluster, client: Redis, spread_store: EventStore
) -> None:
    server.tell(server.having(spread_store.shards[1].log), "FUNCTION", "FLUSH")
    with pytest.raises(StoreNotReady, match="run `respool migrate`"):
        await shard_count(client)
    await migrate(client)
    assert await shard_count(client) == SHARDS


def test_backup_and_restore_say_what_a_cluster_has_instead(server: Cluster, tmp_path: Path) -> None:
    for command in (("backup",), ("restore", str(tmp_path))):
        settings = {"REDIS_URL": server.url, "BACKUP_DIR": str(tmp_path)}
        with respool(tmp_path / "log", *command, **settings) as process:
            assert process.wait() == 1
        assert "docs/cluster.md" in process.output
        assert "Traceback" not in process.output
