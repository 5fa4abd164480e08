"""Redis that comes back: with everything, with less than it had, with nothing."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from core.fleet import WorkerStatus
from core.records import Bounds
from core.roster import Roster
from core.states import Completed
from core.store import EventStore
from core.tail import TailWatch
from migrations.runner import migrate
from projections.building import log_lengths
from tests.api.errors import error_of
from tests.api.soon import listeners, soon
from tests.api.workers import a_worker as an_idle_worker
from tests.consumers.fleet import Scripted, a_worker, ended, types_of
from tests.given import a_job
from tests.store.audit import audit
from tests.trouble.conftest import Site, a_site


async def readyz(site: Site) -> dict[str, Any]:
    fields: dict[str, Any] = (await site.api.http.get("/readyz")).json()
    return fields


async def test_redis_that_is_killed_and_started_on_its_log_has_lost_nothing(site: Site) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(site.server, upstream, lease_seconds=10):
        running = await a_job(site.store)
        await upstream.calls.get()
        accepted = [await site.api.submit() for _ in range(50)]
        polling = asyncio.create_task(site.api.job(accepted[-1], wait=60))
        await soon(lambda: listeners(site.api, accepted[-1]) == 1)
        await site.api.job(accepted[0])  # By now the poll has read the job, and waits for its bell.
        site.server.stop()
        await asyncio.to_thread(site.server.start)
        upstream.gate.set()
        for job_id in (running, *accepted):
            assert isinstance(await ended(site.store, job_id), Completed)
        assert (await polling)["status"] == "completed"
    assert await types_of(site.store, running) == ["submitted", "claimed", "completed"]
    assert "note" not in await readyz(site)
    await audit(site.store)


async def test_an_emptied_store_is_said_to_be_so_and_works_once_it_is_migrated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        a_site(tmp_path) as site,
        a_worker(site.server, Scripted()) as (worker, _),
    ):
        await ended(site.store, await a_job(site.store))
        await soon(lambda: worker.tail._known[0].sequence > 0)
        await until_seen(site)
        site.server.stop()
        await asyncio.to_thread(site.server.start)
        await soon(lambda: worker.tail.trouble is not None and site.api.tail.trouble is not None)
        error = error_of(await site.api.post(), 503, "store_not_ready")
        assert "run `respool migrate`" in error["message"]
        answer = await site.api.http.get("/readyz")
        assert answer.status_code == 503
        assert "run `respool migrate`" in answer.json()["status"]
        await migrate(site.client)

        async def is_ready() -> bool:
            return (await site.api.http.get("/readyz")).status_code == 200

        await soon(is_ready)
        assert "was emptied" in (await readyz(site))["note"]
        assert isinstance(await ended(site.store, await site.api.submit()), Completed)
        [member] = await Roster(site.store).members()
        assert (member.name, member.worker.status) == (worker.identity.name, WorkerStatus.STARTED)
    said = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert len([one for one in said if "was emptied" in one.getMessage()]) == 2  # API and worker.


async def until_seen(site: Site) -> None:
    """Until the API has looked at the log as it is now."""
    [events] = await log_lengths(site.store)
    await soon(lambda: site.api.tail._known[0].sequence >= events > 0)


async def test_a_log_that_lost_its_end_is_noticed_and_said(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = Scripted(is_open=False)
    async with a_worker(site.server, upstream, lease_seconds=10, concurrency=1):
        kept = await a_job(site.store)
        await upstream.calls.get()
        await until_seen(site)
        synced = {path: path.stat().st_size for path in site.folder.glob("appendonlydir/*.aof")}
        lost = await a_job(site.store)
        last = (await site.store.feed(0, "0-0"))[-1]
        await soon(lambda: site.api.tail._known[0].entry == last.id)
        site.server.stop()
        for path, size in synced.items():  # As a power cut would leave it.
            with path.open("r+b") as file:
                file.truncate(size)
        await asyncio.to_thread(site.server.start)
        await soon(lambda: site.api.tail.loss is not None)
        note = (await readyz(site))["note"]
        assert f"from event number {last.sequence} on" in note
        assert await site.store.load(lost) is None
        upstream.gate.set()
        assert isinstance(await ended(site.store, kept), Completed)
        assert isinstance(await ended(site.store, await a_job(site.store)), Completed)
    assert "has lost its end" in caplog.text
    await audit(site.store)


async def test_the_end_of_a_log_that_was_acknowledged_and_never_looked_at_is_missed_too(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut takes the last second or two: what nobody may have seen but who was told of it."""
    await an_idle_worker(site.store)
    await site.api.submit()
    await until_seen(site)
    monkeypatch.setattr("core.tail.LOOK_EVERY_SECONDS", 5.0)
    seen = site.api.tail._known[0]
    await asyncio.sleep(1.1)  # From now on it looks every 5 s.
    synced = {path: path.stat().st_size for path in site.folder.glob("appendonlydir/*.aof")}
    for _ in range(3):
        await site.api.submit()
    site.server.stop()
    for path, size in synced.items():
        with path.open("r+b") as file:
            file.truncate(size)
    await asyncio.to_thread(site.server.start)
    await soon(lambda: site.api.tail.loss is not None)
    assert f"from event number {seen.sequence + 1} on" in (site.api.tail.loss or "")


async def test_a_worker_whose_claim_was_lost_with_the_tail_cannot_write_under_another_s(
    site: Site,
) -> None:
    """The same version and claim number are given again, to somebody else."""
    first, second = Scripted(is_open=False), Scripted(is_open=False)
    job_id = await a_job(site.store)
    synced = {path: path.stat().st_size for path in site.folder.glob("appendonlydir/*.aof")}
    async with a_worker(site.proxy, first, lease_seconds=60, concurrency=1):
        await first.calls.get()
        site.proxy.stall()  # It hears nothing of what follows.
        site.server.stop()
        for path, size in synced.items():
            with path.open("r+b") as file:
                file.truncate(size)
        await asyncio.to_thread(site.server.start)
        async with a_worker(site.server, second, lease_seconds=60):
            await second.calls.get()
            first.gate.set()
            await soon(lambda: first.running == 0)
            await site.proxy.refuse()
            site.proxy.resume()
            await site.proxy.open()
            head = await site.store.require(job_id)
            assert (head.job.version, head.job.claims) == (2, 1)
            await site.api.job(job_id)
            second.gate.set()
            assert isinstance(await ended(site.store, job_id), Completed)
    assert await types_of(site.store, job_id) == ["submitted", "claimed", "completed"]
    await audit(site.store)


async def test_a_store_whose_keys_were_flushed_is_said_to_be_empty(site: Site) -> None:
    await a_job(site.store)
    await until_seen(site)
    await site.client.flushall()
    await soon(lambda: site.api.tail.trouble is not None)
    answer = await site.api.http.get("/readyz")
    assert "run `respool migrate`" in answer.json()["status"]
    await migrate(site.client)
    await soon(lambda: site.api.tail.trouble is None)


async def test_a_store_of_many_shards_is_to_be_migrated_to_as_many(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.client.flushall()
    await migrate(site.client, shards=4)
    watch = TailWatch(EventStore(site.client, 4, Bounds()))
    await watch.look()
    await site.client.flushall()
    await watch.look()
    assert "run `respool migrate --shards 4`" in (watch.trouble or "")
    assert "`respool migrate --shards 4` makes it anew" in caplog.text
    await migrate(site.client, shards=4)
    await watch.look()
    assert watch.trouble is None


async def test_a_store_of_another_shape_asks_for_a_new_start(site: Site) -> None:
    await a_job(site.store)
    await until_seen(site)
    await site.client.flushall()
    await migrate(site.client, shards=4)
    await soon(lambda: "4 shards and had 1" in (site.api.tail.trouble or ""))


async def test_one_look_at_a_store_that_is_as_it_was_finds_nothing(store: EventStore) -> None:
    watch = TailWatch(store)
    for _ in range(3):
        await watch.look()
        await a_job(store)
    assert (watch.loss, watch.trouble) == (None, None)


async def test_a_loss_is_noticed_though_the_functions_were_gone_too(store: EventStore) -> None:
    """As after the restore of an older dump, which has no functions."""
    watch = TailWatch(store)
    await a_job(store)
    await a_job(store)
    await watch.look()
    last = (await store.feed(0, "0-0"))[-1]
    await store.client.xdel(store.shards[0].log, last.id)
    await store.client.execute_command("FUNCTION", "FLUSH")
    await watch.look()
    assert "run `respool migrate`" in (watch.trouble or "")
    await migrate(store.client)
    await watch.look()
    assert watch.trouble is None
    assert "has lost its end" in (watch.loss or "")
