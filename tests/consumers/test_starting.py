"""Starting while Redis comes and goes: whoever has found its store once does not give up."""

import asyncio

import pytest
from redis.asyncio import Redis

from cli import opening
from core.roster import Roster
from core.settings import Settings
from core.store import EventStore
from migrations.runner import shard_count
from tests.consumers.fleet import Scripted, a_worker, ended
from tests.given import a_job
from tests.proxy import proxy_to
from tests.servers import RedisServer

SOON_SECONDS = 15


async def test_a_worker_whose_first_words_are_cut_off_says_them_again_and_works(
    server: RedisServer, store: EventStore
) -> None:
    async with proxy_to(server.port) as proxy:
        proxy.cut_in_reply(1)
        async with a_worker(proxy, Scripted()):
            job_id = await a_job(store)
            await ended(store, job_id)
            async with asyncio.timeout(SOON_SECONDS):
                while not any(one.heartbeat for one in await Roster(store).members()):
                    await asyncio.sleep(0.01)


async def test_a_store_that_goes_away_as_it_is_looked_at_is_waited_for(
    server: RedisServer, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy_to(server.port) as proxy:

        async def count_and_be_cut_off(client: Redis) -> int:
            shards = await shard_count(client)
            proxy.cut_in_reply(1)
            return shards

        monkeypatch.setattr(opening, "shard_count", count_and_be_cut_off)
        async with opening.open_store(Settings(), proxy.url, 1.0) as opened:
            assert await opened.load(await a_job(store)) is not None
