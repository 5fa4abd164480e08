"""API keys: which requests need one, what each is good for, and until when."""

import asyncio
from hmac import compare_digest
from http import HTTPMethod

import httpx
import msgspec
import pytest
from litestar import Litestar, get
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, Receive, Send
from litestar.types import Scope as Connection

from api import keyring
from api.access import Permit
from api.app import create_app
from api.errors import EXCEPTION_HANDLERS
from api.keyring import LOOK_EVERY_SECONDS, TRUSTED_SECONDS, Keyring
from core.access import Caller, Scope
from core.api_keys import KeyRevoked, KeyRotated, digest_of
from core.bells import Bells
from core.errors import StoreUnavailable
from core.key_book import KeyBook, new_secret
from core.keys import API_KEYS
from core.records import Bounds
from core.redis import connect
from core.settings import Settings
from core.store import EventStore
from tests.api.conftest import Api, OpenApi, says_nothing
from tests.api.errors import error_of
from tests.api.keys import OPERATOR, a_key, bearer, revoke
from tests.api.soon import listeners, soon
from tests.api.workers import Script
from tests.servers import free_port

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
        assert answer.headers["www-authenticate"].startswith('Bearer realm="respool"')
    for path in OPEN:
        assert (await locked.http.get(path)).status_code != 401


async def test_a_browser_asks_for_the_key_of_the_documentation_as_a_password(
    store: EventStore, open_api: OpenApi
) -> None:
    api = await open_api(store, openai_api_key_required=True, openai_api_key=OPERATOR)
    asked = await api.http.get("/docs")
    assert "Basic realm=" in asked.headers["www-authenticate"]
    for path in ("/docs", "/openapi.json"):
        assert (await api.http.get(path, auth=("anybody", OPERATOR))).status_code == 200
        assert (await api.http.get(path, auth=("anybody", "a guess"))).status_code == 401


async def test_a_password_opens_nothing_that_another_site_could_ask_a_browser_for(
    store: EventStore, open_api: OpenApi
) -> None:
    api = await open_api(store, openai_api_key_required=True, openai_api_key=OPERATOR)
    answer = await api.http.get("/v1/jobs", auth=("anybody", OPERATOR))
    assert answer.status_code == 401
    assert "Basic" not in answer.headers["www-authenticate"]


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
    app = create_app(store, Bells(store.client), Settings(), lambda: True, says_nothing)
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


async def test_a_route_that_forgot_to_say_takes_the_scope_operate() -> None:
    @get("/forgot")
    async def forgot() -> None: ...

    for scopes, is_allowed in (({Scope.OPERATE}, True), ({Scope.SUBMIT, Scope.READ}, False)):
        caller = Caller(tenant="t", sees="t", scopes=frozenset(scopes))

        def tell(app: ASGIApp, caller: Caller = caller) -> ASGIApp:
            async def told(scope: Connection, receive: Receive, send: Send) -> None:
                scope["state"]["caller"] = caller
                await app(scope, receive, send)

            return told

        app = Litestar([forgot], middleware=[tell, Permit], exception_handlers=EXCEPTION_HANDLERS)
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            assert ((await client.get("/forgot")).status_code == 200) == is_allowed


def test_the_operators_key_is_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch, store: EventStore
) -> None:
    compared: list[str] = []

    def noting(one: str, other: str) -> bool:
        compared.append(other)
        return compare_digest(one, other)

    monkeypatch.setattr(keyring, "compare_digest", noting)
    ring = Keyring(KeyBook(store.client), Bells(store.client), OPERATOR)
    assert ring.caller(OPERATOR.encode()) is not None
    assert compared == [digest_of(OPERATOR)]


def _routes(app: Litestar) -> list[HTTPRoute]:
    return [route for route in app.routes if isinstance(route, HTTPRoute)]


async def test_a_key_that_is_known_counts_where_none_is_needed(
    store: EventStore, api: Api, idle_worker: None
) -> None:
    reader = bearer(await a_key(store, "reader", tenant="team", scopes=(Scope.READ,)))
    submitter = bearer(await a_key(store, "submitter", tenant="team", scopes=(Scope.SUBMIT,)))
    await soon(lambda: _is_known(api, submitter))
    job = (await api.post(submitter)).json()
    assert job["tenant"] == "team"
    assert (await api.http.get(f"/v1/jobs/{job['id']}", headers=reader)).status_code == 200
    error_of(await api.post(reader), 403, "insufficient_scope")
    theirs = await api.submit()
    error_of(await api.http.get(f"/v1/jobs/{theirs}", headers=reader), 404, "job_not_found")


async def _is_known(api: Api, headers: dict[str, str]) -> bool:
    return (await api.http.get("/v1/outcomes", headers=headers)).status_code == 403


async def test_what_openais_clients_send_instead_of_a_key_does_not_matter(
    api: Api, idle_worker: None
) -> None:
    for header in ("Bearer ollama", "Bearer sk-x", "Basic abc", "nonsense"):
        assert (await api.post({"Authorization": header})).status_code == 202


async def test_a_key_expires_by_itself(locked: Api, store: EventStore) -> None:
    headers = bearer(await a_key(store, "short", expires_in_ms=700))

    async def status() -> int:
        return (await locked.http.get("/v1/models", headers=headers)).status_code

    async def is_good() -> bool:
        return await status() == 200

    async def is_over() -> bool:
        return await status() == 401

    await soon(is_good)
    await soon(is_over)


async def test_a_secret_that_was_replaced_ends_with_its_grace(
    locked: Api, store: EventStore
) -> None:
    old, new = await a_key(store, "mine"), new_secret()
    book = KeyBook(store.client)
    await book.catch_up()
    key = book.named("mine")
    assert key is not None
    await book.record(KeyRotated(key=key.id, by="us", digest=digest_of(new), grace_ms=700))

    async def status(secret: str) -> int:
        return (await locked.http.get("/v1/models", headers=bearer(secret))).status_code

    async def both_are_good() -> bool:
        return [await status(old), await status(new)] == [200, 200]

    async def the_old_one_is_over() -> bool:
        return await status(old) == 401

    await soon(both_are_good)
    await soon(the_old_one_is_over)
    assert await status(new) == 200


async def test_a_change_whose_bell_nobody_hears_is_found(locked: Api, store: EventStore) -> None:
    headers = bearer(await a_key(store, "mine"))

    async def is_good() -> bool:
        return (await locked.http.get("/v1/models", headers=headers)).status_code == 200

    async def is_over() -> bool:
        return not await is_good()

    await soon(is_good)
    [key] = (await _all_keys(store)).keys
    revoked = msgspec.json.encode(KeyRevoked(key=key, by="us"))
    await store.client.xadd(API_KEYS, {"e": revoked})
    async with asyncio.timeout(LOOK_EVERY_SECONDS + 1.0):
        await soon(is_over)


async def _all_keys(store: EventStore) -> KeyBook:
    book = KeyBook(store.client)
    await book.catch_up()
    return book


async def test_a_stream_ends_with_its_key(locked: Api, store: EventStore, script: Script) -> None:
    secret = await a_key(store, "mine", tenant="team")
    headers = bearer(secret)

    async def is_good() -> bool:
        return (await locked.http.get("/v1/models", headers=headers)).status_code == 200

    await soon(is_good)
    job = (await locked.post(headers)).json()["id"]
    await script.called.wait()
    async with locked.http.stream("GET", f"/v1/jobs/{job}/output", headers=headers) as stream:
        lines = stream.aiter_lines()
        script.say("one")
        assert "one" in [await anext(lines) for _ in range(3)][-1]
        await revoke(store, "mine")
        await soon(lambda: _is_refused(locked, headers))
        script.say("two")
        async with asyncio.timeout(10):
            rest = [line async for line in lines]
    assert "two" not in "".join(rest)
    await soon(lambda: listeners(locked, job) == 0)


async def test_who_waits_hears_that_the_key_is_over(
    locked: Api, store: EventStore, script: Script
) -> None:
    headers = bearer(await a_key(store, "mine"))

    async def is_good() -> bool:
        return (await locked.http.get("/v1/models", headers=headers)).status_code == 200

    await soon(is_good)
    job = (await locked.post(headers)).json()["id"]
    waiting = asyncio.create_task(
        locked.http.get(f"/v1/jobs/{job}", params={"wait": 10}, headers=headers)
    )
    await soon(lambda: listeners(locked, job) == 1)
    await revoke(store, "mine")
    await soon(lambda: _is_refused(locked, headers))
    script.answer()
    error_of(await waiting, 401, "invalid_api_key")


async def _is_refused(api: Api, headers: dict[str, str]) -> bool:
    return (await api.http.get("/v1/models", headers=headers)).status_code == 401


async def test_without_the_store_known_keys_are_good_for_a_while(store: EventStore) -> None:
    secret = await a_key(store, "mine", tenant="team")
    clock = Clock()
    ring = Keyring(KeyBook(store.client, clock), Bells(store.client), OPERATOR)
    with pytest.raises(StoreUnavailable):  # It has never seen them.
        ring.caller(secret.encode())
    await ring.look()
    clock.seconds += TRUSTED_SECONDS - 1
    caller = ring.caller(secret.encode())
    assert caller is not None
    assert caller.tenant == "team"
    assert ring.caller(b"wrong") is None
    clock.seconds += 2
    with pytest.raises(StoreUnavailable, match="60 s"):
        ring.caller(secret.encode())
    assert ring.caller(OPERATOR.encode()) is not None  # It is not the store's to say.


class Clock:
    """A clock that a test moves."""

    seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


async def test_keys_that_were_never_read_are_503_and_not_401(open_api: OpenApi) -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0")
    api = await open_api(
        EventStore(client, 1, Bounds()), openai_api_key_required=True, openai_api_key=OPERATOR
    )
    sent = bearer("sk-respool-x")
    error_of(await api.http.get("/v1/jobs", headers=sent), 503, "store_unavailable")
    error_of(await api.http.get("/v1/jobs"), 401, "missing_api_key")
    error_of(await api.http.get("/v1/jobs/x", headers=bearer(OPERATOR)), 404, "job_not_found")
    assert (await api.http.get("/healthz")).status_code == 200
