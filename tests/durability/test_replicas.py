"""`replicated`: what was acknowledged is on a replica, and without one nothing is acknowledged."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from core.commands import Cancel
from core.durability import Durability
from core.errors import NotDurable
from core.records import Bounds
from core.redis import connect
from core.states import Cancelled
from core.store import EventStore
from tests.api.conftest import OpenApi, open_api
from tests.api.errors import error_of
from tests.api.workers import a_worker
from tests.durability.conftest import OpenStore
from tests.durability.submitting import Submitters, missing
from tests.given import a_job
from tests.servers import SERVERS, RedisServer
from tests.store.audit import audit

__all__ = ["open_api"]  # A fixture.

SYNCING = ("--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0")


class Pair:
    """A primary and its replica, each with a folder of its own."""

    def __init__(self, kind: str, folder: Path, stack: ExitStack) -> None:
        self.primary = self._start(kind, folder / "primary", stack)
        address = f"127.0.0.1 {self.primary.port}"
        self.replica = self._start(kind, folder / "replica", stack, "--replicaof", address)

    def _start(self, kind: str, folder: Path, stack: ExitStack, *options: str) -> RedisServer:
        folder.mkdir()
        server = SERVERS[kind](folder, *SYNCING, *options)
        server.start()
        stack.callback(server.stop)
        return server

    async def until_connected(self) -> None:
        async with asyncio.timeout(30):
            client = connect(self.replica.url)
            while (await client.info("replication"))["master_link_status"] != "up":
                await asyncio.sleep(0.02)
            await client.aclose()

    def promote(self) -> None:
        """The replica becomes the primary, as Sentinel or an operator would do it."""
        with redis.Redis(port=self.replica.port) as client:
            client.execute_command("REPLICAOF", "NO", "ONE")


@pytest.fixture
def pair(kind: str, tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(kind, tmp_path, stack)


async def test_what_was_acknowledged_is_on_the_replica_when_the_primary_and_its_disk_are_gone(
    pair: Pair, opened: OpenStore
) -> None:
    store = await opened(pair.primary.url, Durability.REPLICATED, patience_seconds=8.0)
    await pair.until_connected()
    async with Submitters(store) as submitters:
        await submitters.until(500)
        pair.primary.stop()
    pair.promote()
    client = connect(pair.replica.url)
    promoted = EventStore(client, 1, Bounds())
    assert await missing(promoted, list(submitters.acknowledged)) == set()
    await audit(promoted)
    await client.aclose()


async def test_without_its_replica_a_submission_is_503_in_time_and_goes_on_when_it_is_back(
    pair: Pair, opened: OpenStore, open_api: OpenApi
) -> None:
    store = await opened(pair.primary.url, Durability.REPLICATED, patience_seconds=3.0)
    await pair.until_connected()
    await a_worker(store)
    api = await open_api(store)
    await api.submit()
    key = {"Idempotency-Key": "one"}
    pair.replica.send(signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            first, second = [await api.post(key) for _ in range(2)]
    finally:
        pair.replica.send(signal.SIGCONT)
    for answer in (first, second):
        error = error_of(answer, 503, "store_unavailable")
        assert "written, but not confirmed as durable within 3 s: 0 replicas" in error["message"]
        assert "retry-after" in answer.headers
    third = await api.post(key)
    assert third.status_code == 200
    assert third.json()["status"] == "queued"
    assert (await api.post()).status_code == 202


async def test_a_replica_that_comes_back_in_time_is_waited_for(
    pair: Pair, opened: OpenStore
) -> None:
    store = await opened(pair.primary.url, Durability.REPLICATED, patience_seconds=20.0)
    await pair.until_connected()
    await a_job(store)
    pair.replica.send(signal.SIGSTOP)
    try:
        waiting = [asyncio.create_task(a_job(store)) for _ in range(10)]
        done, _ = await asyncio.wait(waiting, timeout=0.5)
        assert not done
    finally:
        pair.replica.send(signal.SIGCONT)
    jobs = await asyncio.gather(*waiting)
    assert await missing(store, list(jobs)) == set()


async def test_an_ending_is_not_acknowledged_without_the_replica_and_stands(
    pair: Pair, opened: OpenStore
) -> None:
    store = await opened(pair.primary.url, Durability.REPLICATED, patience_seconds=3.0)
    await pair.until_connected()
    job = await a_job(store)
    pair.replica.send(signal.SIGSTOP)
    try:
        with pytest.raises(NotDurable):
            await store.execute(job, Cancel("me"))
    finally:
        pair.replica.send(signal.SIGCONT)
    assert isinstance((await store.require(job)).job, Cancelled)
