"""A fail-over behind one address: the old primary lives on as a replica, and new connections lead to the new one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from core import functions
from core.commands import Claim, Complete
from core.errors import StoreUnavailable
from core.events import Timings
from core.records import Bounds
from core.redis import connect
from core.states import Completed
from core.store import EventStore
from tests.api.soon import soon
from tests.api.sse import streaming
from tests.consumers.fleet import Scripted, a_worker, ended, types_of
from tests.given import CHAT, a_job
from tests.servers import RedisServer, free_port, running, valkey
from tests.store.audit import audit
from tests.trouble.conftest import Site


@pytest.fixture
async def second(site: Site, tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A replica of the site's Redis that has all of it."""
    folder = tmp_path / "second"
    folder.mkdir()
    with running(valkey(folder)) as server:
        client: Any = connect(server.url)
        await client.execute_command("REPLICAOF", "127.0.0.1", site.server.port)

        async def is_in_step() -> bool:
            here, there = await client.info("replication"), await site.client.info("replication")
            is_up = here["role"] == "slave" and here["master_link_status"] == "up"
            return bool(is_up and here["slave_repl_offset"] == there["master_repl_offset"])

        await soon(is_in_step)
        await client.aclose()
        yield server


@asynccontextmanager
async def there(second: RedisServer) -> AsyncIterator[EventStore]:
    """The store on the new primary."""
    client = connect(second.url)
    yield EventStore(client, 1, Bounds())
    await client.aclose()


async def at_once(site: Site, job_id: str) -> list[httpx.Response]:
    """So many reads that the API needs many connections."""
    asking = (site.api.http.get(f"/v1/jobs/{job_id}") for _ in range(20))
    return await asyncio.gather(*asking)


async def fail_over(site: Site, second: RedisServer, old_follows: int | None = None) -> None:
    """As managed Redis does it: nobody's connection is closed. With care, so that nothing is lost."""
    assert await site.client.execute_command("WAIT", 1, 10_000) == 1
    client: Any = connect(second.url)
    await client.execute_command("REPLICAOF", "NO", "ONE")
    await client.aclose()
    site.proxy.lead_to(second.port)
    await site.client.execute_command("REPLICAOF", "127.0.0.1", old_follows or second.port)


async def test_after_a_fail_over_everybody_goes_over_to_the_new_primary(
    site: Site, second: RedisServer
) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(site.proxy, upstream, lease_seconds=10, concurrency=1):
        running_job = await a_job(site.store)
        await upstream.calls.get()
        await at_once(site, running_job)
        async with streaming(site.api, f"/v1/jobs/{running_job}/events") as events:
            await events.take(2)
            await fail_over(site, second)

            async def is_accepted() -> bool:
                return (await site.api.post()).status_code == 202

            await soon(is_accepted)
            upstream.gate.set()
            assert await events.rest() == [("3", "completed")]
        waiting = await site.api.submit()
        assert (await site.api.job(waiting, wait=15))["status"] == "completed"
    async with there(second) as store:
        assert isinstance(await ended(store, running_job), Completed)
        assert await types_of(store, running_job) == ["submitted", "claimed", "completed"]
        await audit(store)
    assert "note" not in (await site.api.http.get("/readyz")).json()


async def test_who_only_reads_does_not_read_from_the_old_primary_for_ever(
    site: Site, second: RedisServer
) -> None:
    """Of a job that runs: for one that waits its place in line is asked for, which a replica refuses too."""
    job_id = await a_job(site.store)
    await site.store.execute(job_id, Claim("w1"))
    await at_once(site, job_id)
    await fail_over(site, second, old_follows=free_port())  # Nobody, so it hears no more.
    async with there(second) as store:
        await store.execute(job_id, Complete(1, CHAT, Timings(ran_ms=5)))

    async def is_completed() -> bool:
        answers = await at_once(site, job_id)
        return all(one.is_success and one.json()["status"] == "completed" for one in answers)

    await soon(is_completed)


async def test_a_round_of_durability_goes_over_to_the_new_primary_too(
    site: Site, second: RedisServer
) -> None:
    """It has a connection of its own, on which nothing is sent but pipelines."""
    client = connect(site.proxy.url)
    touch = functions.command("touch", [site.store.shards[0].synced], {"written": []})
    assert await functions.pipeline(client, [touch]) == [[]]
    await fail_over(site, second)

    async def is_through() -> bool:
        try:
            return await functions.pipeline(client, [touch]) == [[]]
        except StoreUnavailable:
            return False

    await soon(is_through)
    await client.aclose()
