"""All events as they come: filtered, resumed, and never silent about what is missing."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from litestar import Request
from msgspec import Raw

from api import tail as tail_module
from core.access import ANYBODY, Caller, Scope
from core.commands import Cancel, Claim, Complete
from core.events import Timings, WorkerStarted
from core.queues import Queues
from core.roster import Roster
from core.store import EventStore
from core.upcast import SCHEMA
from tests.api.conftest import Api, OpenApi
from tests.api.errors import error_of
from tests.api.soon import soon
from tests.api.sse import Stream, streaming
from tests.conftest import OpenStore
from tests.given import CHAT, a_job

PATH = "/v1/events"
BEGINNING = f"{PATH}?from=0-0"
TENANT = "x-test-tenant"


async def begun(stream: Stream) -> str:
    """The position at which a stream begins, which it says first."""
    event = await stream.next()
    assert event.event == "position"
    assert event.json() == {"position": event.id}
    return event.id


async def next_of(stream: Stream, count: int) -> list[tuple[str, str]]:
    """The types of the next events and the jobs that they are of."""
    events = [await stream.next() for _ in range(count)]
    return [(event.event, str(event.json().get("job_id"))) for event in events]


async def a_life(store: EventStore, **submitted: Any) -> str:
    job = await a_job(store, **submitted)
    await store.execute(job, Claim("w1"))
    await store.execute(job, Complete(1, Raw(b'{"said":"all"}'), Timings(0)))
    return job


async def ends(api: Api) -> list[str]:
    return [entry.id for entry in await api.store.feed(0, "0-0", 10_000)]


async def test_it_begins_now_and_has_what_comes(api: Api, store: EventStore) -> None:
    await a_life(store)
    async with streaming(api, PATH) as stream:
        assert await begun(stream) == (await ends(api))[-1]
        job = await a_life(store)
        assert await next_of(stream, 3) == [
            ("submitted", job),
            ("claimed", job),
            ("completed", job),
        ]


async def test_an_event_has_whose_it_is_and_no_bodies(api: Api, store: EventStore) -> None:
    async with streaming(api, PATH) as stream:
        await begun(stream)
        job = await a_life(store, queue="batch", tenant="acme", request=CHAT)
        events = [await stream.next() for _ in range(3)]
    assert [event.id for event in events] == await ends(api)
    for version, event in enumerate(events, 1):
        shown = event.json()
        assert (shown["version"], shown["position"]) == (version, event.id)
        assert (shown["job_id"], shown["queue"], shown["tenant"]) == (job, "batch", "acme")
        assert not {"request", "result"} & shown.keys()
    assert events[1].json()["worker"] == "w1"


async def test_workers_and_queues_are_named(api: Api, store: EventStore) -> None:
    async with streaming(api, PATH) as stream:
        await begun(stream)
        started = WorkerStarted(capacity=1, queues=(), models=("m",), upstream="echo:", host="h")
        await Roster(store).record("w1", started)
        await Queues(store).set_paused("batch", paused=True, by="me", reason="moving")
        worker, queue = await stream.next(), await stream.next()
    assert (worker.event, worker.json()["worker"]) == ("worker_started", "w1")
    assert (queue.event, queue.json()["queue"]) == ("queue_paused", "batch")


async def test_types_and_a_queue_are_picked_out(api: Api, store: EventStore) -> None:
    path = f"{BEGINNING}&type=completed,queue_paused&queue=batch"
    await a_life(store)
    wanted = await a_life(store, queue="batch")
    await Queues(store).set_paused("default", paused=True, by="me")
    await Queues(store).set_paused("batch", paused=True, by="me")
    async with streaming(api, path) as stream:
        await begun(stream)
        assert await next_of(stream, 2) == [("completed", wanted), ("queue_paused", "None")]
        live = await a_life(store, queue="batch")
        assert await next_of(stream, 1) == [("completed", live)]


@pytest.mark.parametrize(
    ("query", "param", "says"),
    [
        ("type=done", "type", "takes some of submitted, queued, claimed"),
        ("type=", "type", "not ''"),
        ("queue=no such", "queue", "1 to 64 letters"),
        ("from=yesterday", "from", "takes a position"),
        ("from=1-0,2-0", "from", "takes one entry or 1"),
        ("since=0-0", "since", "there is no such parameter; takes type, queue, from"),
        ("type=failed&type=completed", "type", "takes one value"),
    ],
)
async def test_what_it_cannot_do_is_refused_by_name(
    api: Api, query: str, param: str, says: str
) -> None:
    error = error_of(await api.http.get(f"{PATH}?{query}"), 422, "invalid_value")
    assert error["param"] == param
    assert says in error["message"]


async def test_an_id_that_is_none_is_refused(api: Api) -> None:
    answer = await api.http.get(PATH, headers={"Last-Event-ID": "17"})
    assert error_of(answer, 422, "invalid_value")["param"] == "Last-Event-ID"


async def test_it_goes_on_after_the_last_id_that_was_seen(api: Api, store: EventStore) -> None:
    for _ in range(3):
        await a_life(store)
    whole = await ends(api)
    for seen, last in enumerate(whole, 1):
        async with streaming(api, BEGINNING, last) as stream:  # As a browser does: both.
            assert await begun(stream) == last
            rest = whole[seen:]
            assert [event for event, _ in await stream.take(len(rest))] == rest


async def test_a_long_past_is_read_in_pages_and_joins_what_comes_without_a_gap(
    api: Api, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "READ_MAX", 7)
    for _ in range(20):
        await a_life(store)
    async with streaming(api, BEGINNING) as stream:
        await begun(stream)
        writing = asyncio.create_task(lives(store, 20))
        seen = [event for event, _ in await stream.take(120)]
        await writing
    assert seen == await ends(api)


async def lives(store: EventStore, count: int) -> None:
    for _ in range(count):
        await a_life(store)


async def test_a_listener_that_fell_behind_what_is_kept_reads_the_log_and_misses_nothing(
    api: Api, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "RING_MAX", 2)
    monkeypatch.setattr(tail_module, "READ_MAX", 50)
    async with streaming(api, PATH) as stream:
        await begun(stream)
        await asyncio.gather(*(a_life(store) for _ in range(30)))
        seen = [event for event, _ in await stream.take(90)]
    assert seen == await ends(api)


@pytest.mark.parametrize("kept", [1, 0])
async def test_a_position_that_was_trimmed_is_told(api: Api, store: EventStore, kept: int) -> None:
    await lives(store, 2)
    whole = await ends(api)
    await store.client.xtrim(store.shards[0].log, maxlen=kept, approximate=False)
    async with streaming(api, PATH, whole[0]) as stream:
        await begun(stream)
        resync = await stream.next()
        assert (resync.event, resync.json()["shard"]) == ("resync", 0)
        await a_job(store)
        assert [event for event, _ in await stream.take(1)]


async def test_how_much_was_trimmed_is_told_where_it_is_known(api: Api, store: EventStore) -> None:
    await lives(store, 2)
    last = (await ends(api))[-1]
    await store.client.xtrim(store.shards[0].log, maxlen=1, approximate=False)
    async with streaming(api, BEGINNING) as stream:
        await begun(stream)
        resync = await stream.next()
        assert resync.event == "resync"
        assert resync.json() == {
            "shard": 0,
            "first": 1,
            "last": 5,
            "why": "trimmed or lost: the log does not have it any more",
        }
        assert await stream.take(1) == [(last, "completed")]


async def test_a_gap_in_what_comes_is_told(api: Api, store: EventStore) -> None:
    await a_job(store)
    async with streaming(api, PATH) as stream:
        await begun(stream)
        await store.client.incrby(store.shards[0].sequence, 2)
        job = await a_job(store)
        resync = await stream.next()
        assert (resync.event, resync.json()["first"], resync.json()["last"]) == ("resync", 2, 3)
        assert await next_of(stream, 1) == [("submitted", job)]


async def test_a_log_that_lost_its_end_is_told(api: Api, store: EventStore) -> None:
    for _ in range(3):
        await a_job(store)
    keys, last = store.shards[0], (await ends(api))[-1]
    await store.client.xdel(keys.log, last)
    await store.client.decr(keys.sequence)
    async with streaming(api, PATH, last) as stream:
        assert await begun(stream) == (await ends(api))[-1]
        assert (await stream.next()).event == "resync"
        job = await a_job(store)
        assert await next_of(stream, 1) == [("submitted", job)]


async def test_what_nobody_can_read_is_passed_over_and_told(api: Api, store: EventStore) -> None:
    async with streaming(api, PATH) as stream:
        await begun(stream)
        keys = store.shards[0]
        number = await store.client.incr(keys.sequence)
        broken = {"j": "x", "v": 1, "t": "submitted", "d": "{", "o": "x", "q": number, "s": SCHEMA}
        await store.client.xadd(keys.log, broken)  # type: ignore[arg-type]
        resync = await stream.next()
        assert (resync.event, resync.json()["first"]) == ("resync", number)
        assert resync.json()["why"] == "it cannot be read"
        job = await a_job(store)
        assert await next_of(stream, 1) == [("submitted", job)]


async def test_what_a_newer_release_wrote_ends_it_and_is_where_it_goes_on(
    api: Api, store: EventStore
) -> None:
    job = await a_job(store)
    async with streaming(api, BEGINNING) as stream:
        before = await begun(stream)
        assert before == "0-0"
        submitted = await stream.next()
        keys = store.shards[0]
        newer = {"j": job, "v": 2, "t": "promoted", "d": "{}", "o": "x", "q": 2, "s": 9, "r": 9}
        await store.client.xadd(keys.log, newer)  # type: ignore[arg-type]
        error = await stream.next()
        assert (error.event, error.json()["error"]["code"]) == ("error", "store_newer")
        assert error.id == submitted.id
        assert await stream.rest() == []


def as_tenants(monkeypatch: pytest.MonkeyPatch, caller_for: Callable[[str], Caller]) -> None:
    """Requests are of the caller that their header names."""

    def caller_of(request: Request[Any, Any, Any]) -> Caller:
        name = request.headers.get(TENANT)
        return ANYBODY if name is None else caller_for(name)

    monkeypatch.setattr("api.app.caller_of", caller_of)


async def test_a_tenant_sees_its_own_jobs_and_all_workers_and_queues(
    api: Api, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_tenants(
        monkeypatch, lambda name: Caller(tenant=name, sees=name, scopes=frozenset({Scope.READ}))
    )
    past = [await a_life(store, tenant=tenant) for tenant in ("acme", "other")]
    await Queues(store).set_paused("batch", paused=True, by="me")
    api.http.headers[TENANT] = "acme"
    async with streaming(api, BEGINNING) as stream:
        await begun(stream)
        assert {job for _, job in await next_of(stream, 3)} == {past[0]}
        assert await next_of(stream, 1) == [("queue_paused", "None")]
        await a_life(store, tenant="other")
        mine = await a_life(store, tenant="acme")
        assert {job for _, job in await next_of(stream, 3)} == {mine}


async def test_an_event_of_a_job_that_nobody_knows_is_only_for_who_sees_all(
    api: Api, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_tenants(
        monkeypatch, lambda name: Caller(tenant=name, sees=name, scopes=frozenset({Scope.READ}))
    )
    forgotten = await a_life(store, tenant="acme")
    known = await a_life(store, tenant="acme")
    submitted, *_ = await ends(api)
    await store.client.delete(store.shards[0].head(forgotten))
    path = f"{PATH}?from={submitted}"
    async with streaming(api, path) as stream:
        await begun(stream)
        event = await stream.next()
        assert event.json()["job_id"] == forgotten
        assert event.json()["tenant"] is None
    api.http.headers[TENANT] = "acme"
    async with streaming(api, path) as stream:
        await begun(stream)
        assert await next_of(stream, 1) == [("submitted", known)]


async def test_shards_come_together_and_the_id_has_them_all(
    open_store: OpenStore, open_api: OpenApi
) -> None:
    store = await open_store(shards=3)
    api = await open_api(store)
    jobs = [await a_job(store, shard) for shard in (0, 1, 2, 0, 1, 2)]
    async with streaming(api, BEGINNING) as stream:
        await begun(stream)
        events = [await stream.next() for _ in jobs]
        assert sorted(event.json()["job_id"] for event in events) == sorted(jobs)
        live = await a_job(store, 1)
        assert await next_of(stream, 1) == [("submitted", live)]
    for at, event in enumerate(events, 1):
        assert len(event.id.split(",")) == 3
        async with streaming(api, PATH, event.id) as stream:
            await begun(stream)
            rest = [job for _, job in await next_of(stream, 1 + len(jobs) - at)]
            assert sorted(rest) == sorted([*(one.json()["job_id"] for one in events[at:]), live])


async def test_everybody_shares_one_reading_of_the_log_and_it_ends_with_the_last(
    api: Api, store: EventStore
) -> None:
    before = await blocked(store)
    async with streaming(api, PATH) as one, streaming(api, PATH) as other:
        await begun(one)
        await begun(other)
        await soon(lambda: is_blocked(store, before + 1))
        job = await a_job(store)
        for stream in (one, other):
            assert await next_of(stream, 1) == [("submitted", job)]
        assert await blocked(store) <= before + 1
    await soon(lambda: is_blocked(store, before))
    await soon(lambda: api.desk.firehose.ring is None)


async def blocked(store: EventStore) -> int:
    return int((await store.client.info("clients"))["blocked_clients"])


async def is_blocked(store: EventStore, count: int) -> bool:
    return await blocked(store) == count


async def test_it_ends_when_the_api_stops(api: Api) -> None:
    async with streaming(api, PATH) as stream:
        await begun(stream)
        api.bells.close()
        assert await stream.rest() == []


async def test_a_silent_stream_says_where_it_is_once_that_has_changed(
    api: Api, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a client whose filter nothing passes goes on from there, and not from what was trimmed."""
    monkeypatch.setattr("api.feeds.COMMENT_EVERY_SECONDS", 0.1)
    async with streaming(api, f"{PATH}?type=failed") as stream:
        await begun(stream)
        job = await a_job(store)
        await store.execute(job, Cancel("me"))
        async with asyncio.timeout(10):
            while (position := (await stream.next()).id) != (await ends(api))[-1]:
                assert position in await ends(api)
