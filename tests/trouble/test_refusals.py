"""Redis that answers, and will not: loading, busy, read-only or full."""

import asyncio
import shutil
from typing import Any

import pytest
import redis
import redis.asyncio

from core.redis import connect
from core.states import Completed
from tests.api.errors import error_of
from tests.api.soon import soon
from tests.api.workers import a_worker as an_idle_worker
from tests.consumers.fleet import Scripted, a_worker, ended, types_of
from tests.given import a_job
from tests.servers import RedisServer, free_port
from tests.trouble.conftest import Site, every_call, is_away


async def works_again(site: Site) -> None:
    """A job can be submitted, without anybody having been restarted."""

    async def is_accepted() -> bool:
        return (await site.api.post()).status_code == 202

    await soon(is_accepted)


async def test_a_read_only_replica_is_503_until_it_is_made_a_primary_again(site: Site) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(site.server, upstream, lease_seconds=10):
        job_id = await a_job(site.store)
        await upstream.calls.get()
        await site.client.execute_command("REPLICAOF", "127.0.0.1", free_port())
        is_away(await site.api.post())
        is_away(await site.api.http.post(f"/v1/jobs/{job_id}/cancel"))
        assert (await site.api.job(job_id))["status"] == "running"  # It can be read.
        upstream.gate.set()
        await site.client.execute_command("REPLICAOF", "NO", "ONE")
        await works_again(site)
        assert isinstance(await ended(site.store, job_id), Completed)
    assert await types_of(site.store, job_id) == ["submitted", "claimed", "completed"]


async def test_a_replica_without_its_primary_is_503(site: Site) -> None:
    """MASTERDOWN: it does not even read."""
    await an_idle_worker(site.store)
    job_id = await a_job(site.store)
    await site.client.config_set("replica-serve-stale-data", "no")
    await site.client.execute_command("REPLICAOF", "127.0.0.1", free_port())
    for answer in await every_call(site, job_id):
        is_away(answer)
    await site.client.execute_command("REPLICAOF", "NO", "ONE")
    await works_again(site)


async def test_a_primary_that_misses_its_replicas_is_503_until_it_has_them(site: Site) -> None:
    await an_idle_worker(site.store)
    await site.client.config_set("min-replicas-to-write", 1)
    answer = await site.api.post()
    is_away(answer)
    assert "NOREPLICAS" in answer.json()["error"]["message"]
    await site.client.config_set("min-replicas-to-write", 0)
    await works_again(site)


async def test_a_redis_that_cannot_write_to_its_disk_is_503_until_it_can(site: Site) -> None:
    """MISCONF: a snapshot fails, as somebody has put a folder in its place."""
    await an_idle_worker(site.store)
    (site.folder / "dump.rdb" / "in the way").mkdir(parents=True)
    await site.client.config_set("save", "3600 1")

    async def is_saved(status: str) -> bool:
        info = await site.client.info("persistence")
        if info["rdb_bgsave_in_progress"]:
            return False
        if info["rdb_last_bgsave_status"] != status:
            await site.client.bgsave()
        return bool(info["rdb_last_bgsave_status"] == status)

    await soon(lambda: is_saved("err"))
    answer = await site.api.post()
    is_away(answer)
    assert "MISCONF" in answer.json()["error"]["message"]
    shutil.rmtree(site.folder / "dump.rdb")
    await soon(lambda: is_saved("ok"))
    await works_again(site)


async def test_a_full_redis_takes_no_jobs_and_finishes_those_it_has(site: Site) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(site.server, upstream, lease_seconds=10):
        job_id = await a_job(site.store)
        await upstream.calls.get()
        used = int((await site.client.info("memory"))["used_memory"])
        await site.client.config_set("maxmemory", used)

        async def is_full() -> bool:  # It is looked up every 100 ms.
            answer = await site.api.post()
            return answer.status_code != 202 and bool(error_of(answer, 503, "store_full"))

        await soon(is_full)
        upstream.gate.set()
        assert isinstance(await ended(site.store, job_id), Completed)
        await site.client.config_set("maxmemory", 100 * used)
        await works_again(site)


async def test_a_redis_that_is_busy_with_a_script_is_503_until_that_ends(site: Site) -> None:
    await an_idle_worker(site.store)
    upstream = Scripted(is_open=False)
    async with a_worker(site.server, upstream, lease_seconds=10):
        job_id = await a_job(site.store)
        await upstream.calls.get()
        await site.client.config_set("busy-reply-threshold", 50)
        hog = asyncio.create_task(endless_script(site.server))
        killer = redis.asyncio.Redis(port=site.server.port)
        await soon(lambda: is_busy(killer))
        for answer in await every_call(site, job_id):
            is_away(answer)
        upstream.gate.set()
        await killer.script_kill()
        await hog
        await killer.aclose()
        await works_again(site)
        assert isinstance(await ended(site.store, job_id), Completed)
    assert await types_of(site.store, job_id) == ["submitted", "claimed", "completed"]


async def endless_script(server: RedisServer) -> None:
    client = redis.asyncio.Redis(port=server.port, socket_timeout=60)
    with pytest.raises(redis.ResponseError, match="kill"):
        await client.eval("while true do end", 0)
    await client.aclose()


async def is_busy(client: redis.asyncio.Redis) -> bool:
    try:
        await client.ping()
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


async def test_a_redis_that_is_loading_is_503_until_it_has_loaded(site: Site) -> None:
    await an_idle_worker(site.store)
    job_id = await a_job(site.store)
    for n in range(800):
        await site.client.set(f"ballast-{n}", "x" * 1_000)
    await site.client.config_set("save", "")
    await site.client.execute_command("BGREWRITEAOF")

    async def is_rewritten() -> bool:
        info = await site.client.info("persistence")
        return not info["aof_rewrite_in_progress"] and not info.get("aof_rewrite_scheduled")

    await soon(is_rewritten)
    site.server.stop()
    # Hidden settings of its own tests: so long for each key, and answering meanwhile.
    site.server.launch(
        "--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024"
    )
    probe: Any = connect(site.server.url)  # One that does not try again by itself.

    async def is_loading() -> bool:
        try:
            await probe.ping()
        except redis.BusyLoadingError:
            return True
        except redis.RedisError:
            return False
        pytest.fail("it had loaded before it could be asked")

    await soon(is_loading)
    await probe.aclose()
    for answer in await every_call(site, job_id):
        is_away(answer)
    await works_again(site)
