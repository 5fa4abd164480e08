"""Worker processes are killed under OpenAI's own client: before the first token it only waits."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from core.states import Running
from core.store import EventStore
from tests.api.conftest import Api
from tests.api.soon import soon
from tests.api.workers import a_worker
from tests.processes import Process, respool
from tests.servers import RedisServer

SAY: list[ChatCompletionMessageParam] = [{"role": "user", "content": "one two three"}]
SILENT = "echo://?latency_ms=600000"
ONE_TOKEN = "echo://?tokens_per_second=0.001"  # The next one is far off.
READY = "echo://"
PATIENCE_SECONDS = 40  # The machine may have a lot to do.

StartWorker = Callable[[str], Process]


@pytest.fixture
def start_worker(server: RedisServer, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts worker processes that do not outlive the test."""
    with ExitStack() as stack:

        def start(upstream_url: str) -> Process:
            settings = {"REDIS_URL": server.url, "LEASE_SECONDS": "1", "WORKER_PORT": "0"}
            settings["UPSTREAM_URL"] = upstream_url
            return stack.enter_context(respool(tmp_path / "worker.log", "worker", **settings))

        yield start


@pytest.fixture
async def caller(api: Api, store: EventStore) -> AsyncIterator[openai.AsyncOpenAI]:
    await a_worker(store)  # The model is known before the processes are up.
    async with openai.AsyncOpenAI(
        base_url=f"{api.http.base_url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_SECONDS
    ) as client:
        yield client


async def claimed(store: EventStore) -> str:
    """The one job that there is, once a worker has claimed it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            subjects = [entry.subject for entry in await store.feed(0, "0-0")]
            for job_id in (subject for subject in subjects if ":" not in subject):
                if isinstance((await store.require(job_id)).job, Running):
                    return job_id
            await asyncio.sleep(0.02)


async def events_of(api: Api, job_id: str) -> list[str]:
    events = (await api.http.get(f"/v1/jobs/{job_id}/events")).json()["events"]
    return [event["type"] for event in events]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_worker_that_is_killed_before_the_first_token_is_never_noticed(
    caller: openai.AsyncOpenAI,
    api: Api,
    store: EventStore,
    start_worker: StartWorker,
    stream: bool,
) -> None:
    victim = start_worker(SILENT)
    asking = asyncio.create_task(said(caller, stream))
    job_id = await claimed(store)
    victim.kill()
    start_worker(READY)
    assert await asking == "one two three"
    events = ["submitted", "claimed", "attempt_lost", "claimed", "completed"]
    assert await events_of(api, job_id) == events


async def said(caller: openai.AsyncOpenAI, stream: bool) -> str | None:
    if not stream:
        answer = await caller.chat.completions.create(model="echo", messages=SAY)
        return answer.choices[0].message.content
    chunks = await caller.chat.completions.create(model="echo", messages=SAY, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


async def test_a_worker_that_is_killed_after_it_ends_the_stream_with_an_error_that_names_the_job(
    caller: openai.AsyncOpenAI, api: Api, store: EventStore, start_worker: StartWorker
) -> None:
    victim = start_worker(ONE_TOKEN)
    stream = await caller.chat.completions.create(model="echo", messages=SAY, stream=True)
    heard = [(await anext(stream)).choices[0].delta.content]
    job_id = await claimed(store)
    victim.kill()
    start_worker(READY)
    with pytest.raises(openai.APIError, match=f"lost; GET /v1/jobs/{job_id}/result") as broken:
        heard += [chunk.choices[0].delta.content async for chunk in stream]
    assert heard == ["one"]
    assert isinstance(broken.value.body, dict)
    assert broken.value.body["job_id"] == job_id
    result = f"/v1/jobs/{job_id}/result"

    async def is_there() -> bool:
        return (await api.http.get(result)).is_success

    await soon(is_there)
    answer = (await api.http.get(result)).json()
    assert answer["choices"][0]["message"]["content"] == "one two three"
