"""A head that an older release wrote is this one's, whole, once it is written."""

from typing import Any

import pytest
from redis.asyncio import Redis

from core import upcast
from core.commands import Claim
from core.events import WorkerDraining, WorkerStarted
from core.fleet import WorkerStatus
from core.roster import Roster
from core.store import EventStore
from tests.given import a_job
from tests.store.audit import audit

Fields = dict[str, Any]

OLDER = upcast.SCHEMA - 1
STARTED = WorkerStarted(capacity=1, queues=(), models=("echo",), upstream="x", host="h")


def to_today_s(what: str, fields: Fields) -> Fields:
    """The older release had `customer` and `machine` where there are `tenant` and `host` now."""
    names = {"customer": "tenant", "machine": "host"}
    return {names.get(name, name): fields[name] for name in fields} if what == "head" else fields


@pytest.fixture(autouse=True)
def upcaster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upcast, "_UPCASTERS", {OLDER: to_today_s})


async def written_by_an_older_release(client: Redis, head: str, today: str, then: str) -> None:
    await client.execute_command("HSET", head, "schema", OLDER)
    await client.execute_command("HSET", head, then, await client.hget(head, today))
    await client.execute_command("HDEL", head, today)


async def fields_of(store: EventStore, head: str) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = await store.client.execute_command("HGETALL", head)
    return fields


async def test_the_first_change_writes_all_of_an_older_head_anew(store: EventStore) -> None:
    job = await a_job(store, tenant="acme", deadline_ms=60_000)
    head = store.shards[0].head(job)
    await written_by_an_older_release(store.client, head, "tenant", "customer")
    before = await fields_of(store, head)
    await store.execute(job, Claim("w1"))
    after = await fields_of(store, head)
    assert b"customer" not in after
    assert (after[b"tenant"], after[b"schema"]) == (b"acme", str(upcast.SCHEMA).encode())
    kept = (b"1", b"entry", b"model", b"queue")
    assert [after[name] for name in kept] == [before[name] for name in kept]
    assert (await store.require(job)).job.tenant == "acme"
    assert [entry.version for entry in await store.history(job)] == [1, 2]


async def test_so_it_is_with_a_worker_s(store: EventStore) -> None:
    roster = Roster(store)
    await roster.record("w1", STARTED)
    head = store.shards[0].head("worker:w1")
    await written_by_an_older_release(store.client, head, "host", "machine")
    await roster.record("w1", WorkerDraining(running=0))
    [member] = await roster.members()
    assert (member.worker.status, member.worker.host) == (WorkerStatus.DRAINING, "h")
    assert b"machine" not in await fields_of(store, head)


async def test_a_head_that_is_only_read_stays_as_it_is(store: EventStore) -> None:
    job = await a_job(store, tenant="acme")
    head = store.shards[0].head(job)
    await written_by_an_older_release(store.client, head, "tenant", "customer")
    before = await fields_of(store, head)
    assert (await store.require(job)).job.tenant == "acme"
    assert await fields_of(store, head) == before
    await audit(store)
