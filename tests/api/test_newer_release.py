"""An API that is yet to be upgraded says so where it has to, and answers all the rest."""

import asyncio

import httpx
import pytest

from core.commands import Claim
from core.store import EventStore
from tests.api.conftest import CHAT, Api
from tests.api.errors import error_of
from tests.api.sse import streaming
from tests.api.workers import Script, a_worker
from tests.given import a_job
from tests.releases.newer import is_newer, subject_is_newer

SSE = {"Accept": "text/event-stream"}


async def a_newer_release_writes(store: EventStore, job: str) -> None:
    """What this release cannot read, while somebody waits for the job."""
    await is_newer(store, job, readable=False)
    await store.client.hincrby(store.keys_of(job).head(job), "version", 1)
    await store.client.publish(f"respool:bell:{job}", "2")


async def asked(api: Api, job: str) -> list[httpx.Response]:
    """Everything that reads a job."""
    path = f"/v1/jobs/{job}"
    answers = await asyncio.gather(
        api.http.get(path),
        api.http.get(path, params={"wait": 10}),
        api.http.get(f"{path}/result"),
        api.http.get(f"{path}/events"),
        api.http.get(f"{path}/events", headers=SSE),
        api.http.get(f"{path}/output"),
    )
    return list(answers)


def is_refused(answer: httpx.Response, job: str) -> None:
    error = error_of(answer, 503, "store_newer")
    assert "upgrade it" in error["message"]
    assert error["job_id"] == job
    assert answer.headers["retry-after"] == "1"


async def test_a_job_that_cannot_be_read_is_refused_by_every_call(
    api: Api, store: EventStore
) -> None:
    job = await a_job(store)
    await is_newer(store, job, readable=False)
    for answer in await asked(api, job):
        is_refused(answer, job)
    for verb in ("cancel", "requeue"):
        is_refused(await api.http.post(f"/v1/jobs/{job}/{verb}"), job)


async def test_a_job_that_can_be_read_is_shown_and_not_changed(api: Api, store: EventStore) -> None:
    job = await a_job(store)
    await is_newer(store, job)
    assert (await api.job(job))["status"] == "queued"
    events = await api.http.get(f"/v1/jobs/{job}/events")
    assert [event["type"] for event in events.json()["events"]] == ["submitted"]
    is_refused(await api.http.post(f"/v1/jobs/{job}/cancel"), job)


@pytest.mark.parametrize(("path", "before"), [("events", 1), ("output", 0)])
async def test_a_stream_that_can_be_read_no_further_says_why_and_ends(
    api: Api, store: EventStore, path: str, before: int
) -> None:
    job = await a_job(store)
    headers = "text/event-stream"
    api.http.headers["Accept"] = headers
    async with streaming(api, f"/v1/jobs/{job}/{path}") as stream:
        await stream.take(before)
        while not api.bells._channels.get(f"respool:bell:{job}"):
            await asyncio.sleep(0.01)
        await a_newer_release_writes(store, job)
        last = await stream.next()
        assert last.event == "error"
        assert last.json()["error"]["code"] == "store_newer"
        assert await stream.rest() == []


async def test_a_poll_ends_when_the_job_can_be_read_no_more(api: Api, store: EventStore) -> None:
    job = await a_job(store)
    polling = asyncio.create_task(api.http.get(f"/v1/jobs/{job}", params={"wait": 15}))
    while not api.bells._channels.get(f"respool:bell:{job}"):
        await asyncio.sleep(0.01)
    await a_newer_release_writes(store, job)
    async with asyncio.timeout(5):
        is_refused(await polling, job)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_who_waits_learns_which_job_goes_on_and_is_not_to_ask_again(
    api: Api, store: EventStore, script: Script, stream: bool
) -> None:
    body = {"model": "echo", "stream": stream} | CHAT
    asking = asyncio.create_task(api.http.post("/v1/chat/completions", json=body))
    await script.called.wait()
    [job] = {entry.subject for entry in await store.feed(0, "0-0") if ":" not in entry.subject}
    await a_newer_release_writes(store, job)
    async with asyncio.timeout(5):
        answer = await asking
    error = error_of(answer, 503, "store_newer")
    assert f"GET /v1/jobs/{job}" in error["message"]
    assert (answer.headers["x-job-id"], answer.headers["x-should-retry"]) == (job, "false")


async def test_a_job_is_accepted_though_its_submitter_cannot_wait_for_it(
    api: Api, store: EventStore, script: Script
) -> None:
    posting = asyncio.create_task(api.post({"Prefer": "wait=15"}))
    await script.called.wait()
    [job] = {entry.subject for entry in await store.feed(0, "0-0") if ":" not in entry.subject}
    await a_newer_release_writes(store, job)
    async with asyncio.timeout(5):
        answer = await posting
    assert (answer.status_code, answer.json()["id"]) == (202, job)


async def test_workers_of_a_newer_release_count_as_workers(api: Api, store: EventStore) -> None:
    await a_worker(store, "newer", "llama")
    await subject_is_newer(store, store.shards[0].head("worker:newer"), readable=False)
    assert (await api.http.get("/readyz")).status_code == 200
    await api.submit(model="llama")
    missing = await api.post(model="gpt")
    assert "served are: llama" in error_of(missing, 404, "model_not_found")["message"]


async def test_a_queue_that_a_newer_release_paused_is_told_apart_from_a_store_that_is_away(
    api: Api, store: EventStore
) -> None:
    await api.http.post("/v1/queues/slow/pause")
    await subject_is_newer(store, store.shards[0].head("queue:slow"), readable=False)
    answer = await api.http.post("/v1/queues/slow/resume")
    assert "upgrade it" in error_of(answer, 503, "store_newer")["message"]


async def test_an_event_that_this_release_does_not_know_is_refused_by_name(
    api: Api, store: EventStore
) -> None:
    job = await a_job(store)
    keys, client = store.shards[0], store.client
    fields = {"j": job, "v": 2, "t": "promoted", "d": "{}", "o": "x", "q": 2, "s": 2, "r": 1}
    words = [str(word) for pair in fields.items() for word in pair]
    entry = await client.execute_command("XADD", keys.log, "*", *words)
    await client.execute_command("HSET", keys.head(job), "version", 2, "2", entry)
    for path in ("", "/result", "/events"):
        error = error_of(await api.http.get(f"/v1/jobs/{job}{path}"), 503, "store_newer")
        assert "no event of type 'promoted'" in error["message"]


async def test_a_claim_by_an_older_worker_changes_nothing(api: Api, store: EventStore) -> None:
    job = await a_job(store)
    await is_newer(store, job)
    before = await store.client.hgetall(store.shards[0].head(job))
    with pytest.raises(Exception, match="upgrade it"):
        await store.execute(job, Claim("old"))
    assert await store.client.hgetall(store.shards[0].head(job)) == before
