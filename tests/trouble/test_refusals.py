"""Redis that answers, and will not: loading, busy, read-only, full, or closed to us."""

import asyncio
from pathlib import Path

import pytest
import redis
import redis.asyncio

from core.errors import StoreUnavailable
from core.redis import connect
from core.states import Completed
from core.store import Bounds, EventStore
from migrations.runner import migrate
from tests.api.errors import error_of
from tests.api.soon import soon
from tests.api.workers import a_worker as an_idle_worker
from tests.consumers.fleet import Scripted, a_worker, ended, types_of
from tests.given import a_job, new_id, submitted
from tests.processes import respool
from tests.servers import RedisServer, free_port, running, valkey
from tests.trouble.conftest import Site


async def works_again(site: Site) -> None:
    """A job can be submitted, without anybody having been restarted."""

    async def is_accepted() -> bool:
        return (await site.api.post()).status_code == 202

    await soon(is_accepted)


async def is_refused(site: Site, code: str) -> bool:
    answer = await site.api.post()
    if answer.is_success:
        return False
    error_of(answer, 503, code)
    return True


async def test_a_read_only_replica_is_503_until_it_is_made_a_primary_again(site: Site) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(site.server, upstream, lease_seconds=10):
        job_id = await a_job(site.store)
        await upstream.calls.get()
        await site.client.execute_command("REPLICAOF", "127.0.0.1", free_port())
        error_of(await site.api.post(), 503, "store_unavailable")
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
    error_of(await site.api.post(), 503, "store_unavailable")
    error_of(await site.api.http.get(f"/v1/jobs/{job_id}"), 503, "store_unavailable")
    await site.client.execute_command("REPLICAOF", "NO", "ONE")
    await works_again(site)


async def test_a_full_redis_takes_no_jobs_and_finishes_those_it_has(site: Site) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(site.server, upstream, lease_seconds=10):
        job_id = await a_job(site.store)
        await upstream.calls.get()
        used = int((await site.client.info("memory"))["used_memory"])
        await site.client.config_set("maxmemory", used)
        await soon(lambda: is_refused(site, "store_full"))
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
        killer = connect(site.server.url)
        await soon(lambda: is_busy(killer))
        error_of(await site.api.post(), 503, "store_unavailable")
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
    for n in range(400):
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
    probe = connect(site.server.url)

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
    error_of(await site.api.post(), 503, "store_unavailable")
    await works_again(site)


@pytest.mark.parametrize(
    "reply",
    [
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "READONLY You can't write against a read only replica.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist.",
        "NOREPLICAS Not enough good replicas to write.",
        "CLUSTERDOWN The cluster is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
    ],
)
async def test_whatever_redis_says_that_it_cannot_do_just_now_is_worth_another_try(
    reply: str,
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := await reader.read(65_536):
            if b"FCALL" in asked:
                writer.write(f"-{reply}\r\n".encode())
            else:  # How a connection begins: one command a star.
                writer.write(b"+OK\r\n" * asked.count(b"*"))
        writer.close()

    port = free_port()
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        client = connect(f"redis://127.0.0.1:{port}/0")
        store = EventStore(client, 1, Bounds(patience_seconds=0.2))
        with pytest.raises(StoreUnavailable):
            await store.submit(new_id(), submitted())
        with pytest.raises(StoreUnavailable):
            await store.load(new_id())
        await client.aclose()


async def test_a_wrong_password_is_said_at_the_start_with_the_setting_that_has_it(
    tmp_path: Path,
) -> None:
    with running(valkey(tmp_path)) as server:
        client = connect(server.url)
        await migrate(client)
        await client.config_set("requirepass", "right")
        await client.aclose()
        url = server.url.replace("redis://", "redis://:wrong@")
        with respool(tmp_path / "api.log", "api", REDIS_URL=url, API_PORT=str(free_port())) as api:
            assert await asyncio.to_thread(api.wait) == 1
            assert "REDIS_URL is redis://:***@" in api.output
            assert "Traceback" not in api.output
            assert "wrong@" not in api.output
