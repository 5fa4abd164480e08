"""Whatever is planted is found and named, and nothing else is; what is derived from the log is mended."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from core.commands import Cancel, Complete
from core.events import Timings
from core.keys import LaneName
from core.states import Lane
from core.store import EventStore
from projections.checkpoint import View
from projections.generations import serving
from projections.replay.repair import repair
from tests.given import CHAT, a_job
from tests.projections.views import catch_up
from tests.replay.worlds import claimed, findings, some_of_everything

Plant = Callable[[EventStore, Any], Awaitable[list[str]]]
PLANTS: dict[str, Plant] = {}


def plant(what: Plant) -> Plant:
    PLANTS[what.__name__] = what
    return what


async def the_view(store: EventStore) -> View:
    return (await serving(store)).view(store, 0)


async def completed(store: EventStore) -> str:
    job = await claimed(store)
    await store.execute(job, Complete(1, CHAT, Timings(ran_ms=1)))
    return job


@plant
async def a_head_was_edited(store: EventStore, client: Any) -> list[str]:
    job = await a_job(store)
    await catch_up(store)
    await client.hset(store.shards[0].head(job), "tenant", "mallory")
    return [f"head {job} tenant is 'mallory'; it should be 'default'"]


@plant
async def a_head_was_put_back_a_version(store: EventStore, client: Any) -> list[str]:
    job = await a_job(store)
    before = await client.hgetall(store.shards[0].head(job))
    await store.execute(job, Cancel("somebody"))
    await catch_up(store)
    entries = await store.history(job)
    await client.delete(store.shards[0].head(job))
    await client.hset(store.shards[0].head(job), mapping=before)
    return [
        f"head {job} 2 is missing; it should be '{entries[1].id}'",
        f"head {job} lane is 'normal', and should not be there",
        f"head {job} status is 'queued'; it should be 'cancelled'",
        f"head {job} version is '1'; it should be '2'",
        f"head {job} entry is '{before[b'entry'].decode()}', and should not be there",
        f"head {job} expiry is 'never'; it should be 'once the retention is over'",
    ]


@plant
async def a_head_was_deleted(store: EventStore, client: Any) -> list[str]:
    job = await a_job(store, deadline_ms=60_000)
    await catch_up(store)
    await client.delete(store.shards[0].head(job))
    return [f"head {job} is missing; it should be 'queued, version 1' (it has not ended)"]


@plant
async def the_head_of_an_ended_job_was_deleted(store: EventStore, client: Any) -> list[str]:
    job = await completed(store)
    await catch_up(store)
    await client.delete(store.shards[0].head(job))
    return [
        f"head {job} is missing; it should be 'completed, version 3' (the retention is not over)"
    ]


@plant
async def an_ended_head_was_made_to_stay(store: EventStore, client: Any) -> list[str]:
    job = await completed(store)
    await catch_up(store)
    await client.persist(store.shards[0].head(job))
    return [f"head {job} expiry is 'never'; it should be 'once the retention is over'"]


@plant
async def an_open_head_was_made_to_expire(store: EventStore, client: Any) -> list[str]:
    job = await a_job(store)
    await catch_up(store)
    await client.pexpire(store.shards[0].head(job), 60_000)
    return [f"head {job} expiry is 'after a while'; it should be 'never'"]


@plant
async def a_lane_entry_was_removed(store: EventStore, client: Any) -> list[str]:
    job = await a_job(store)
    await catch_up(store)
    entry = (await store.require(job)).entry
    await client.xdel(store.shards[0].ready(LaneName(Lane.NORMAL, "default", "echo")), entry)
    return [f"lane entry {job} normal:default:echo is missing; it should be '{entry}'"]


@plant
async def the_lane_entry_of_a_running_job_was_removed(store: EventStore, client: Any) -> list[str]:
    job = await claimed(store)
    await catch_up(store)
    entry = (await store.require(job)).entry
    await client.xdel(store.shards[0].ready(LaneName(Lane.NORMAL, "default", "echo")), entry)
    return [f"lane entry {job} normal:default:echo is missing; it should be '{entry}'"]


@plant
async def a_running_job_was_acknowledged(store: EventStore, client: Any) -> list[str]:
    job = await claimed(store)
    await catch_up(store)
    lane = store.shards[0].ready(LaneName(Lane.NORMAL, "default", "echo"))
    await client.xack(lane, "workers", (await store.require(job)).entry)
    is_now = "is 'pending for nobody'; it should be 'pending for worker-0'"
    return [f"lane entry {job} normal:default:echo {is_now}"]


@plant
async def a_job_stands_in_its_lane_twice(store: EventStore, client: Any) -> list[str]:
    job = await a_job(store)
    await catch_up(store)
    lane = store.shards[0].ready(LaneName(Lane.NORMAL, "default", "echo"))
    entry = await client.xadd(lane, {"j": job})
    return [f"lane entry {job} normal:default:echo is '{entry.decode()}', and should not be there"]


@plant
async def a_lane_has_an_entry_of_nobody(store: EventStore, client: Any) -> list[str]:
    await a_job(store)
    await catch_up(store)
    lane = store.shards[0].ready(LaneName(Lane.NORMAL, "default", "echo"))
    entry = await client.xadd(lane, {"j": "nobody"})
    return [f"lane entry nobody normal:default:echo is '{entry.decode()}', and should not be there"]


@plant
async def a_lane_was_struck_off_the_list(store: EventStore, client: Any) -> list[str]:
    await a_job(store, queue="rare")
    await catch_up(store)
    await client.srem(store.shards[0].lanes, "normal:rare:echo")
    return ["lane normal:rare:echo in the list of lanes is missing; it should be 'listed'"]


@plant
async def a_lane_is_listed_that_is_not_there(store: EventStore, client: Any) -> list[str]:
    await client.sadd(store.shards[0].lanes, "normal:none:echo")
    return ["lane normal:none:echo in the list of lanes is 'listed', and should not be there"]


@plant
async def a_lane_has_lost_its_group(store: EventStore, client: Any) -> list[str]:
    await a_job(store, queue="rare")
    await catch_up(store)
    await client.xgroup_destroy("respool:{0}:ready:normal:rare:echo", "workers")
    return ["lane normal:rare:echo consumer group is missing; it should be 'workers'"]


@plant
async def a_timer_is_gone(store: EventStore, client: Any) -> list[str]:
    job = await a_job(store, delay_ms=60_000)
    await catch_up(store)
    due = (await store.require(job)).due_at_ms
    await client.zrem(store.shards[0].timers, f"{job}:due")
    return [f"timer {job} due is missing; it should be '{due}'"]


@plant
async def a_timer_is_wrong(store: EventStore, client: Any) -> list[str]:
    job = await a_job(store, deadline_ms=60_000)
    await catch_up(store)
    due = (await store.require(job)).deadline_at_ms
    await client.zadd(store.shards[0].timers, {f"{job}:deadline": 4_000_000_000_000})
    return [f"timer {job} deadline is '4000000000000'; it should be '{due}'"]


@plant
async def a_timer_is_left_over(store: EventStore, client: Any) -> list[str]:
    job = await completed(store)
    await catch_up(store)
    await client.zadd(store.shards[0].timers, {f"{job}:due": 4_000_000_000_000})
    return [f"timer {job} due is '4000000000000', and should not be there"]


@plant
async def a_timer_is_of_nobody(store: EventStore, client: Any) -> list[str]:
    await client.zadd(store.shards[0].timers, {"nobody:due": 4_000_000_000_000})
    return ["timer nobody due is '4000000000000', and should not be there"]


@plant
async def a_count_is_off(store: EventStore, client: Any) -> list[str]:
    await a_job(store, queue="rare")
    await catch_up(store)
    await client.hincrby(store.shards[0].counts, "waiting:rare", 1)
    return ["count waiting:rare is '2'; it should be '1'"]


@plant
async def the_count_of_an_api_key_s_jobs_is_off(store: EventStore, client: Any) -> list[str]:
    await a_job(store, key="k-3")
    await store.execute(await a_job(store, key="k-4"), Cancel("me"))
    await catch_up(store)
    await client.hincrby(store.shards[0].counts, "in_flight:k-3", 2)
    await client.hset(store.shards[0].counts, "in_flight:k-4", 1)
    return [
        "count in_flight:k-3 is '3'; it should be '1'",
        "count in_flight:k-4 is '1', and should not be there",
    ]


@plant
async def a_count_is_of_nothing(store: EventStore, client: Any) -> list[str]:
    await client.hset(store.shards[0].counts, "running:none", 3)
    return ["count running:none is '3', and should not be there"]


@plant
async def the_sequence_is_off(store: EventStore, client: Any) -> list[str]:
    number = int(await client.get(store.shards[0].sequence))
    await client.incrby(store.shards[0].sequence, 5)
    return [f"sequence of the log is '{number + 5}'; it should be '{number}'"]


@plant
async def a_queue_is_said_to_be_paused(store: EventStore, client: Any) -> list[str]:
    await client.sadd(store.shards[0].paused, "default")
    return ["paused default is 'listed', and should not be there"]


@plant
async def a_paused_queue_is_let_go(store: EventStore, client: Any) -> list[str]:
    await client.srem(store.shards[0].paused, "batch")
    return ["paused batch is missing; it should be 'listed'"]


@plant
async def a_worker_was_struck_off(store: EventStore, client: Any) -> list[str]:
    await client.srem(store.shards[0].subjects, "worker:worker-1")
    return ["subjects worker:worker-1 is missing; it should be 'listed'"]


@plant
async def the_head_of_a_worker_was_edited(store: EventStore, client: Any) -> list[str]:
    await client.hset("respool:{0}:worker:worker-1", "capacity", 9)
    return ["head worker:worker-1 capacity is '9'; it should be '2'"]


@plant
async def the_head_of_a_queue_was_edited(store: EventStore, client: Any) -> list[str]:
    await client.hset("respool:{0}:queue:batch", "paused", 0)
    return ["head queue:batch paused is '0'; it should be '1'"]


@plant
async def a_row_was_edited(store: EventStore, client: Any) -> list[str]:
    job = await a_job(store)
    await catch_up(store)
    rows = (await the_view(store)).keys.rows
    row = await client.hget(rows, job)
    await client.hset(rows, job, row.replace(b'"default"', b'"mallory"'))
    return [f"view row {job} is "]


@plant
async def a_row_is_missing(store: EventStore, client: Any) -> list[str]:
    job = await a_job(store)
    await catch_up(store)
    await client.hdel((await the_view(store)).keys.rows, job)
    return [f"view row {job} is missing"]


@plant
async def a_depth_is_off_by_one(store: EventStore, client: Any) -> list[str]:
    await a_job(store, queue="rare")
    await catch_up(store)
    await client.hincrby((await the_view(store)).keys.named("depths"), "rare:waiting.normal", 1)
    return ["view depths rare:waiting.normal is '2'; it should be '1'"]


@plant
async def a_counter_is_off_by_one(store: EventStore, client: Any) -> list[str]:
    await a_job(store, tenant="acme")
    await catch_up(store)
    view = await the_view(store)
    [usage] = [name for name in await view.names() if name.startswith("usage:")]
    await client.hincrby(view.keys.named(usage), "acme:requests:echo", -1)
    return [f"view {usage} acme:requests:echo is '0'; it should be '1'"]


@plant
async def a_job_is_missing_in_a_list(store: EventStore, client: Any) -> list[str]:
    await a_job(store, queue="rare")
    job = await a_job(store, queue="rare")
    await catch_up(store)
    line = (await the_view(store)).keys.named("line:normal:rare:echo")
    score = int(await client.zscore(line, job))
    await client.zrem(line, job)
    return [f"view line:normal:rare:echo {job} is missing; it should be '{score}'"]


@plant
async def a_job_stands_in_a_list_at_the_wrong_place(store: EventStore, client: Any) -> list[str]:
    job = await a_job(store, queue="rare")
    await catch_up(store)
    line = (await the_view(store)).keys.named("line:normal:rare:echo")
    score = int(await client.zscore(line, job))
    await client.zadd(line, {job: score + 1})
    return [f"view line:normal:rare:echo {job} is '{score + 1}'; it should be '{score}'"]


@plant
async def a_list_is_not_named(store: EventStore, client: Any) -> list[str]:
    await a_job(store, queue="rare")
    await catch_up(store)
    await client.srem((await the_view(store)).keys.names, "line:normal:rare:echo")
    return ["view name line:normal:rare:echo is missing; it should be 'listed'"]


@plant
async def a_job_is_parked_without_reason(store: EventStore, client: Any) -> list[str]:
    job = await a_job(store)
    await catch_up(store)
    parked = (await the_view(store)).keys.parked
    await client.hset(parked, job, '{"entry":"1-1","why":"somebody said so"}')
    return [f"view parked {job} is 'somebody said so', and should not be there"]


@pytest.mark.parametrize("planted", PLANTS.values(), ids=PLANTS)
async def test_what_is_planted_is_named_alone_and_mended(
    store: EventStore, client: Any, planted: Plant
) -> None:
    await some_of_everything(store)
    sentences = await planted(store, client)
    found = await findings(store)
    assert len(found) == len(sentences), found
    for sentence in sentences:
        assert any(sentence in one for one in found), (sentence, found)
    repaired = await repair(store)
    assert {str(one) for one in repaired.mended} == set(found)
    assert await findings(store) == []
