"""A Redis that cannot keep what DURABILITY promises is refused, with what to set; so is one that changes."""

import logging
from pathlib import Path

import pytest
from redis.asyncio import Redis

from core.durability import Durability
from core.errors import NotDurable, StoreNotReady
from core.redis import connect
from tests.durability.conftest import OpenStore, Power
from tests.given import a_job
from tests.processes import respool
from tests.servers import SERVERS, RedisServer, free_port, running

SYNCING = ("--appendonly", "yes", "--appendfsync", "always")


def started(kind: str, folder: Path, *options: str) -> RedisServer:
    return SERVERS[kind](folder, *options)


@pytest.mark.parametrize("durability", [Durability.ALWAYS, Durability.REPLICATED])
@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ((), "appendonly no, so nothing is on disk; set appendonly yes"),
        (("--appendonly", "yes"), "appendfsync everysec, so it answers before it has synced; set"),
        (("--appendonly", "yes", "--appendfsync", "no"), "appendfsync no"),
        ((*SYNCING, "--no-appendfsync-on-rewrite", "yes"), "set no-appendfsync-on-rewrite no"),
    ],
)
async def test_a_redis_that_answers_before_it_syncs_is_refused_with_what_to_set(
    opened: OpenStore,
    tmp_path: Path,
    kind: str,
    durability: Durability,
    options: tuple[str, ...],
    advice: str,
) -> None:
    with (
        running(started(kind, tmp_path, *options)) as server,
        pytest.raises(StoreNotReady) as refused,
    ):
        await opened(server.url, durability)
    assert advice in str(refused.value)
    assert f"DURABILITY={durability} needs" in str(refused.value)


async def test_everysec_asks_nothing_of_redis(opened: OpenStore, tmp_path: Path, kind: str) -> None:
    with running(started(kind, tmp_path)) as server:
        await a_job(await opened(server.url, Durability.EVERYSEC))


async def forbid_config(client: Redis) -> None:
    await client.execute_command("ACL", "SETUSER", "default", "-config")


async def test_what_a_managed_redis_does_not_show_is_said_and_the_rest_is_checked(
    opened: OpenStore, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with running(started(kind, tmp_path, *SYNCING)) as server:
        client = connect(server.url)
        await forbid_config(client)
        await client.aclose()
        store = await opened(server.url, Durability.ALWAYS)
        assert (
            "appendfsync is always and no-appendfsync-on-rewrite no: that cannot be" in caplog.text
        )
        await a_job(store)


async def test_a_managed_redis_that_keeps_nothing_on_disk_is_refused_all_the_same(
    opened: OpenStore, tmp_path: Path, kind: str
) -> None:
    with running(started(kind, tmp_path)) as server:
        client = connect(server.url)
        await forbid_config(client)
        await client.aclose()
        with pytest.raises(StoreNotReady, match="set appendonly yes"):
            await opened(server.url, Durability.ALWAYS)


@pytest.mark.parametrize(("name", "value"), [("appendfsync", "everysec"), ("appendonly", "no")])
async def test_a_setting_that_is_changed_later_is_noticed_by_the_next_submission(
    power: Power, opened: OpenStore, kind: str, name: str, value: str
) -> None:
    powered = power(kind, "always")
    store = await opened(powered.url, Durability.ALWAYS)
    await store.client.config_set(name, value)
    with pytest.raises(NotDurable, match=f"written, but not .*{name}"):
        await a_job(store)
    assert await store.client.hlen(store.shards[0].counts) == 1  # It was written.


async def test_replicated_without_a_replica_yet_starts_and_says_so(
    opened: OpenStore, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with running(started(kind, tmp_path, *SYNCING)) as server:
        with caplog.at_level(logging.WARNING):
            store = await opened(server.url, Durability.REPLICATED, patience_seconds=2.0)
        assert "no replica is connected" in caplog.text
        with pytest.raises(NotDurable, match=r"0 replicas have .*it takes 1"):
            await a_job(store)


def test_the_api_says_what_to_set_and_ends(tmp_path: Path) -> None:
    with running(SERVERS["valkey"](tmp_path)) as server:
        with respool(tmp_path / "migrate.log", "migrate", REDIS_URL=server.url) as migration:
            assert migration.wait() == 0
        settings = {"REDIS_URL": server.url, "DURABILITY": "always", "API_PORT": str(free_port())}
        with respool(tmp_path / "api.log", "api", **settings) as api:
            assert api.wait() == 1
        assert "set appendonly yes" in api.output
        assert "Traceback" not in api.output


def test_up_without_a_redis_of_its_own_cannot_be_replicated(tmp_path: Path) -> None:
    data_dir = str(tmp_path / "data")
    with respool(
        tmp_path / "up.log", "up", DURABILITY="replicated", RESPOOL_DATA_DIR=data_dir
    ) as up:
        assert up.wait() == 1
    assert "DURABILITY=replicated needs a Redis with a replica, in REDIS_URL" in up.output
