"""API keys: which requests need one, what each is good for, and until when."""

import asyncio
from http import HTTPMethod

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from api.app import create_app
from core.bells import Bells
from core.settings import Settings
from core.store import EventStore
from tests.api.conftest import Api, OpenApi
from tests.api.errors import error_of
from tests.api.keys import OPERATOR, a_key, bearer, revoke

OPEN = ("/healthz", "/readyz", "/metrics")


@pytest.fixture
async def locked(store: EventStore, open_api: OpenApi, idle_worker: None) -> Api:
    """An API that requires keys."""
    return await open_api(store, openai_api_key_required=True, openai_api_key=OPERATOR)


async def test_without_a_key_there_is_nothing_but_health(locked: Api) -> None:
    closed = ("/v1/jobs", "/v1/models", "/docs", "/openapi.json", "/v1/no-such", "/", "/healthz/x")
    for path in closed:
        answer = await locked.http.get(path)
        error_of(answer, 401, "missing_api_key")
        assert answer.headers["www-authenticate"] == 'Bearer realm="respool"'
    for path in OPEN:
        assert (await locked.http.get(path)).status_code != 401


async def test_no_path_or_method_leads_around_the_guard(locked: Api) -> None:
    for path in ("//v1/jobs", "/healthz/../v1/jobs", "/v1/jobs/", "/healthz/", "/HEALTHZ", "/%76"):
        for method in HTTPMethod:
            if method is not HTTPMethod.CONNECT:
                answer = await locked.http.request(method, path)
                assert answer.status_code == 401, (method, path)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Bearer wrong", "invalid_api_key"),
        (f"Bearer {OPERATOR}x", "invalid_api_key"),
        (f"Bearer {OPERATOR[:-1]}", "invalid_api_key"),
        (f"Basic {OPERATOR}", "missing_api_key"),
        (OPERATOR, "missing_api_key"),
        ("Bearer", "missing_api_key"),
    ],
)
async def test_what_is_no_key_is_refused_and_never_repeated(
    locked: Api, header: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await locked.http.get("/v1/jobs", headers={"Authorization": header})
    error_of(answer, 401, code)
    assert OPERATOR[:-1] not in answer.text + str(answer.headers) + caplog.text


async def test_the_operators_key_does_everything(locked: Api, projector: None) -> None:
    locked.http.headers.update(bearer(OPERATOR))
    assert (await locked.job(await locked.submit()))["tenant"] == "default"
    assert (await locked.http.post("/v1/queues/default/pause")).json()["paused"]
    for path in ("/v1/jobs", "/v1/outcomes", "/v1/workers", "/docs", "/openapi.json"):
        assert (await locked.http.get(path)).status_code == 200, path


async def test_a_key_that_is_made_and_revoked_is_heard_of_at_once(
    locked: Api, store: EventStore
) -> None:
    headers = bearer(await a_key(store, "mine", tenant="team"))

    async def status() -> int:
        return (await locked.http.get("/v1/models", headers=headers)).status_code

    async with asyncio.timeout(1.0):  # Less than LOOK_EVERY_SECONDS.
        while await status() != 200:
            await asyncio.sleep(0.005)
        await revoke(store, "mine")
        while await status() != 401:
            await asyncio.sleep(0.005)


async def test_every_route_says_which_scopes_it_takes(store: EventStore) -> None:
    app = create_app(store, Bells(store.client), Settings(), lambda: True)
    undeclared = [
        (route.path, sorted(handler.http_methods))
        for route in _routes(app)
        for handler in route.route_handlers
        if handler.http_methods != {"OPTIONS"} and "scopes" not in handler.opt
    ]
    assert undeclared == []
    free = {
        route.path
        for route in _routes(app)
        for handler in route.route_handlers
        if handler.opt.get("scopes") == frozenset()
    }
    assert free <= set(OPEN)


def _routes(app: Litestar) -> list[HTTPRoute]:
    return [route for route in app.routes if isinstance(route, HTTPRoute)]
