"""Tenants: each sees its own jobs, lists and usage, and of the others' not even that they are there."""

import asyncio
from contextlib import suppress
from itertools import chain, combinations
from typing import Any

import httpx
import pytest
from litestar.routes import HTTPRoute

from api.app import create_app
from core.access import Scope
from core.bells import Bells
from core.events import Usage
from core.settings import Settings
from core.store import EventStore
from tests.api.conftest import CHAT, Api, OpenApi, projecting, says_nothing
from tests.api.errors import error_of
from tests.api.keys import OPERATOR, a_key, bearer
from tests.api.soon import soon
from tests.api.workers import Script, a_worker

_STREAM_SECONDS = 1.0
UNKNOWN = "0000000000000000000"
CANARY = "the-others-secret"
SCOPES = tuple(Scope)
SUBSETS = tuple(chain.from_iterable(combinations(SCOPES, size) for size in (1, 2, 3)))


class Tenant:
    """A client with a key of its own."""

    def __init__(self, api: Api, secret: str) -> None:
        self.api = api
        self.secret = secret

    async def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        headers = bearer(self.secret) | arguments.pop("headers", {})
        return await self.api.http.request(method, path, headers=headers, **arguments)

    async def get(self, path: str, **params: Any) -> httpx.Response:
        return await self.ask("GET", path, params=params)

    async def submit(self, headers: dict[str, str] | None = None, **fields: Any) -> str:
        body = {"model": "echo", "request": CHAT} | fields
        answer = await self.ask("POST", "/v1/jobs", json=body, headers=headers or {})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])


@pytest.fixture
async def locked(store: EventStore, open_api: OpenApi) -> Api:
    """An API that requires keys."""
    return await open_api(store, openai_api_key_required=True, openai_api_key=OPERATOR)


@pytest.fixture
async def ours(store: EventStore, locked: Api) -> Tenant:
    return await tenant(store, locked, "ours")


@pytest.fixture
async def theirs(store: EventStore, locked: Api) -> Tenant:
    return await tenant(store, locked, "theirs")


async def tenant(
    store: EventStore, api: Api, name: str, scopes: tuple[Scope, ...] = SCOPES
) -> Tenant:
    """A tenant whose key the API has heard of."""
    key = f"{name}-{'-'.join(scopes)}"
    client = Tenant(api, await a_key(store, key, tenant=name, scopes=scopes))

    async def is_known() -> bool:
        return (await client.get("/openapi.json")).status_code == 200

    await soon(is_known)
    return client


async def jobs_listed(client: Tenant, **params: Any) -> set[str]:
    answer = await client.get("/v1/jobs", **params)
    assert answer.status_code == 200, answer.text
    return {job["id"] for job in answer.json()["jobs"]}


async def test_a_tenant_sees_its_own_jobs_alone(
    ours: Tenant, theirs: Tenant, idle_worker: None, projector: None
) -> None:
    mine, other = await ours.submit(), await theirs.submit()
    operator = Tenant(ours.api, OPERATOR)

    async def is_listed() -> bool:
        return await jobs_listed(operator) == {mine, other}

    await soon(is_listed)
    assert await jobs_listed(ours) == await jobs_listed(ours, tenant="ours") == {mine}
    assert await jobs_listed(theirs) == {other}
    assert await jobs_listed(operator, tenant="theirs") == {other}
    assert (await ours.get(f"/v1/jobs/{mine}")).json()["tenant"] == "ours"
    assert (await operator.get(f"/v1/jobs/{other}")).json()["tenant"] == "theirs"


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/usage"])
async def test_to_ask_for_another_tenant_is_refused_whether_or_not_there_is_one(
    ours: Tenant, theirs: Tenant, idle_worker: None, projector: None, path: str
) -> None:
    await theirs.submit()
    errors = [
        error_of(await ours.get(path, tenant=name), 403, "other_tenant")
        for name in ("theirs", "nobody", "")
    ]
    assert errors[0] == errors[1] == errors[2]


async def test_usage_is_the_tenants_own(
    ours: Tenant, theirs: Tenant, script: Script, projector: None
) -> None:
    for client, tokens in ((ours, 3), (theirs, 5)):
        script.answer(usage=Usage(prompt_tokens=tokens, completion_tokens=1))
        job = await client.submit()
        assert (await client.get(f"/v1/jobs/{job}", wait=10)).json()["status"] == "completed"

    async def counted(client: Tenant) -> dict[str, int]:
        rows = (await client.get("/v1/usage")).json()["usage"]
        return {row["tenant"]: row["prompt_tokens"] for row in rows}

    operator = Tenant(ours.api, OPERATOR)

    async def is_counted() -> bool:
        return await counted(operator) == {"ours": 3, "theirs": 5}

    await soon(is_counted)
    assert await counted(ours) == {"ours": 3}
    assert await counted(theirs) == {"theirs": 5}
    error_of(await ours.get("/v1/outcomes"), 403, "other_tenant")


async def test_bulk_changes_the_tenants_own_jobs_alone(
    ours: Tenant, theirs: Tenant, idle_worker: None, projector: None
) -> None:
    mine, other = await ours.submit(), await theirs.submit()

    async def is_listed() -> bool:
        return await jobs_listed(Tenant(ours.api, OPERATOR)) == {mine, other}

    await soon(is_listed)
    refused = await ours.ask("POST", "/v1/jobs/cancel", json={"tenant": "theirs"})
    error_of(refused, 403, "other_tenant")
    error_of(await ours.ask("POST", "/v1/jobs/cancel", json={}), 422, "invalid_value")
    done = (await ours.ask("POST", "/v1/jobs/cancel", json={"all": True})).json()
    assert done["job_ids"] == [mine]
    assert (await theirs.get(f"/v1/jobs/{other}")).json()["status"] == "queued"


async def test_an_idempotency_key_is_the_tenants_own(
    ours: Tenant, theirs: Tenant, idle_worker: None
) -> None:
    same = {"Idempotency-Key": "order-7"}
    mine, other = await ours.submit(same), await theirs.submit(same)
    assert mine != other
    again = await ours.ask(
        "POST", "/v1/jobs", json={"model": "echo", "request": CHAT}, headers=same
    )
    assert (again.status_code, again.json()["id"]) == (200, mine)


async def test_of_what_workers_run_a_tenant_sees_its_own(
    ours: Tenant, theirs: Tenant, script: Script, projector: None
) -> None:
    mine = await ours.submit()
    await script.called.wait()
    other = await theirs.submit()

    async def running(client: Tenant) -> set[str]:
        [worker] = (await client.get("/v1/workers")).json()["workers"]
        return {job["id"] for job in worker["running"]}

    operator = Tenant(ours.api, OPERATOR)

    async def both_run() -> bool:
        return await running(operator) == {mine, other}

    await soon(both_run)
    assert await running(ours) == {mine}
    assert await running(theirs) == {other}


async def test_queues_are_everybodys(
    ours: Tenant, theirs: Tenant, idle_worker: None, projector: None
) -> None:
    await theirs.submit(queue="shared")

    async def is_counted() -> bool:
        return bool((await ours.get("/v1/queues/shared")).json()["waiting"] == 1)

    await soon(is_counted)


async def test_the_log_says_which_key_it_was(ours: Tenant, idle_worker: None) -> None:
    job = await ours.submit()
    name = "key:ours-submit-read-operate"
    await ours.ask("POST", f"/v1/jobs/{job}/cancel")
    await ours.ask("POST", f"/v1/jobs/{job}/requeue")
    events = (await ours.get(f"/v1/jobs/{job}/events")).json()["events"]
    assert [event["by"] for event in events[1:]] == [name, name]
    await ours.ask("POST", "/v1/queues/default/pause")
    entries = await ours.api.store.feed(0, "0-0")
    assert getattr(entries[-1].event, "by", None) == name


SUBMIT, READ, OPERATE = SCOPES
TAKES = {
    "POST /v1/jobs": {SUBMIT},
    "POST /v1/chat/completions": {SUBMIT},
    "POST /v1/completions": {SUBMIT},
    "POST /v1/embeddings": {SUBMIT},
    "POST /v1/jobs/ID/cancel": {SUBMIT, OPERATE},
    "POST /v1/jobs/ID/requeue": {SUBMIT, OPERATE},
    "GET /v1/models": {SUBMIT, READ},
    "GET /v1/jobs": {READ},
    "GET /v1/jobs/ID": {READ},
    "GET /v1/jobs/ID/result": {READ},
    "GET /v1/jobs/ID/events": {READ},
    "GET /v1/jobs/ID/output": {READ},
    "GET /v1/queues": {READ},
    "GET /v1/queues/q": {READ},
    "GET /v1/workers": {READ},
    "GET /v1/usage": {READ},
    "GET /v1/outcomes": {READ},
    "GET /v1/replay/state?at=2026-11-25T14:03:07Z": {READ},
    "GET /v1/replay/timeline/ID": {READ},
    "GET /v1/events?from=none": {READ},
    "POST /v1/queues/q/pause": {OPERATE},
    "POST /v1/queues/q/resume": {OPERATE},
    "POST /v1/jobs/cancel": {OPERATE},
    "POST /v1/jobs/requeue": {OPERATE},
    "GET /docs": {SUBMIT, READ, OPERATE},
    "OPTIONS /v1/jobs": {SUBMIT, READ, OPERATE},
}


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_scope_allows_what_it_says_and_no_more(
    store: EventStore, locked: Api, idle_worker: None, scope: Scope
) -> None:
    client = await tenant(store, locked, "ours", (scope,))
    for call, scopes in TAKES.items():
        method, path = call.replace("ID", UNKNOWN).split()
        answer = await client.ask(method, path, **({"content": b""} if method == "POST" else {}))
        if scope in scopes:
            assert '"insufficient_scope"' not in answer.text, call
            continue
        error = error_of(answer, 403, "insufficient_scope")
        named = {one for one in SCOPES if one in error["message"].partition("takes: ")[2]}
        assert named == scopes, call


async def test_no_key_of_any_scopes_leads_to_a_job_of_another_tenant(
    store: EventStore, locked: Api, theirs: Tenant, script: Script
) -> None:
    """Every route, by every kind of key: what it says of another's job is what it says of none."""
    await a_worker(store, "idle-1", "other-model")
    running = await theirs.submit(metadata={"of": CANARY})
    await script.called.wait()
    ended = await theirs.submit(model="other-model", metadata={"of": CANARY})
    await theirs.ask("POST", f"/v1/jobs/{ended}/cancel")
    before = [await theirs.api.store.history(job) for job in (running, ended)]
    async with projecting(store):
        operator = Tenant(locked, OPERATOR)

        async def is_listed() -> bool:
            return await jobs_listed(operator) == {running, ended}

        await soon(is_listed)
        calls = _calls(store)
        for scopes in SUBSETS:
            client = await tenant(store, locked, "ours", scopes)
            for method, path in calls:
                for job in (running, ended):
                    answer = await _answer(client, method, path, job)
                    assert CANARY not in answer[1], (scopes, method, path)
                    assert running not in answer[1]
                    assert ended not in answer[1]
                    if "ID" in path:
                        assert answer == await _answer(client, method, path, UNKNOWN)
                        assert answer[0] in ({204} if method == "OPTIONS" else {403, 404})
    assert [await theirs.api.store.history(job) for job in (running, ended)] == before


def _calls(store: EventStore) -> list[tuple[str, str]]:
    """Every call that the API takes, but those that pause the queue that the jobs are in."""
    app = create_app(store, Bells(store.client), Settings(), lambda: True, says_nothing)
    return [
        (method, route.path.replace("{job_id:str}", "ID").replace("{name:str}", "elsewhere"))
        for route in app.routes
        if isinstance(route, HTTPRoute) and not route.path.startswith("/docs")
        for method in sorted(route.methods)
    ]


async def _answer(client: Tenant, method: str, path: str, job: str) -> tuple[int, str]:
    """A call with everything in it that could lead to a job; its answer, without the name of the job."""
    body = {"all": True, "cursor": None} if path in {"/v1/jobs/cancel", "/v1/jobs/requeue"} else {}
    arguments: dict[str, Any] = {"json": body} if method == "POST" else {}
    if path == "/v1/events":
        arguments = {"params": {"from": "0-0"}}  # All that ever happened.
    headers, text = bearer(client.secret), ""
    with suppress(TimeoutError):  # Some streams have no end.
        async with (
            client.api.http.stream(
                method, path.replace("ID", job), headers=headers, **arguments
            ) as answer,
            asyncio.timeout(_STREAM_SECONDS),
        ):
            async for chunk in answer.aiter_text():
                text += chunk
    return answer.status_code, text.replace(job, "ID") if "ID" in path else text
