"""deploy/nginx/ in front of real gateways: streams, limits, TLS, and what it does when a gateway is lost."""

import asyncio
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import Struct

from cli.doctor import outside
from core.settings import Settings
from tests.certificates import Certificate, self_signed
from tests.cli.conftest import stop_store
from tests.clients.conftest import answers, until
from tests.deploy.nginx import Nginx, configured, in_front_of
from tests.processes import Process, respool
from tests.servers import free_port
from tests.upstream.fake import Exchange, Fake, events, serving
from tests.upstream.fake import answers as always

ASKED = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}]}
TOLD = {"model": "told", "messages": [{"role": "user", "content": "Well?"}], "stream": True}


class Site(Struct, frozen=True):
    """nginx, two gateways behind it, and a third one that nothing listens for."""

    nginx: Nginx
    gateway_url: str  # Without nginx.
    store_url: str
    second: Process
    stack: ExitStack
    folder: Path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    ports = [free_port() for _ in range(3)]
    data = folder / "data"
    with ExitStack() as stack:
        nginx = stack.enter_context(in_front_of(ports, folder, certificate))
        stack.callback(stop_store, data)
        usual = {"UPSTREAM_URL": "echo:", "WORKER_PORT": "0", "RESPOOL_DATA_DIR": str(data)}
        first = stack.enter_context(
            respool(folder / "up.log", "up", API_PORT=str(ports[0]), **usual)
        )
        url = f"http://127.0.0.1:{ports[0]}"
        until(lambda: answers(f"{url}/readyz", first))
        store_url = f"redis://127.0.0.1:{json.loads((data / 'store.json').read_bytes())['port']}/0"
        second = stack.enter_context(
            respool(folder / "api.log", "api", API_PORT=str(ports[1]), REDIS_URL=store_url)
        )
        until(lambda: answers(f"http://127.0.0.1:{ports[1]}/readyz", second))
        yield Site(nginx, url, store_url, second, stack, folder)


def test_nginx_takes_the_shipped_file_without_a_word(
    tmp_path: Path, certificate: Certificate
) -> None:
    command = configured(tmp_path, free_port(), [free_port()] * 3, certificate)
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    assert "[warn]" not in tested.stderr


class Told:
    """An inference server that says a word when the test does, and nothing else."""

    def __init__(self) -> None:
        self.words: asyncio.Queue[str] = asyncio.Queue()
        self.left = asyncio.Event()

    async def answer(self, exchange: Exchange) -> None:
        if exchange.path == "/v1/models":
            await exchange.answer(200, b'{"object":"list","data":[{"id":"told"}]}')
            return
        await exchange.start()
        while not exchange.client_left.is_set():
            leaving = asyncio.ensure_future(exchange.client_left.wait())
            word = asyncio.ensure_future(self.words.get())
            await asyncio.wait({leaving, word}, return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            if not word.cancel():
                [line] = events({"choices": [{"delta": {"content": word.result()}}]}, done=False)
                await exchange.send(line)
        self.left.set()


async def test_tokens_pass_one_by_one_and_a_caller_that_leaves_ends_its_generation(
    site: Site,
) -> None:
    told = Told()
    async with serving(told.answer) as upstream, site.nginx.client() as http:
        settings = {"REDIS_URL": site.store_url, "UPSTREAM_URL": upstream.url, "WORKER_PORT": "0"}
        with respool(site.folder / "worker.log", "worker", UPSTREAM_KIND="openai", **settings):
            await _until_served(site.gateway_url, "told")
            told.words.put_nowait("first")
            async with http.stream("POST", "/v1/chat/completions", json=TOLD) as answer:
                assert answer.status_code == 200
                assert answer.headers["content-type"].startswith("text/event-stream")
                lines = answer.aiter_lines()
                for word in ("second", "third", None):  # None is made before the last was read.
                    said = await asyncio.wait_for(_next_word(lines), 20)
                    assert said == {"second": "first", "third": "second", None: "third"}[word]
                    if word is not None:
                        told.words.put_nowait(word)
            await asyncio.wait_for(told.left.wait(), 20)


async def test_nothing_is_held_back_that_does_not_ask_for_it_either(
    tmp_path: Path, certificate: Certificate
) -> None:
    told = Told()
    async with serving(told.answer) as gateway:
        ports = [httpx.URL(gateway.url).port or 0, free_port(), free_port()]
        with in_front_of(ports, tmp_path, certificate) as nginx:
            async with nginx.client() as http:
                told.words.put_nowait("first")
                async with http.stream("POST", "/v1/chat/completions", json=TOLD) as answer:
                    assert "x-accel-buffering" not in answer.headers
                    assert await asyncio.wait_for(_next_word(answer.aiter_lines()), 20) == "first"


async def _next_word(lines: Any) -> str:
    async for line in lines:
        if line.startswith("data: "):
            delta = json.loads(line.removeprefix("data: "))["choices"][0]["delta"]
            if delta.get("content"):
                return str(delta["content"])
    raise AssertionError("the stream ended")


async def _until_served(url: str, model: str) -> None:
    async with httpx.AsyncClient() as http, asyncio.timeout(20):
        while model not in (await http.get(f"{url}/v1/models")).text:
            await asyncio.sleep(0.05)


async def test_an_outsider_finds_tls_a_limit_for_each_address_and_no_metrics(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.nginx.certificate.path))
    found = await outside.public(site.nginx.url)
    assert (found.tls_trouble, found.metrics_status) == ("", 404)
    assert found.certificate_until is not None
    assert set(found.statuses) == {200, 429}
    assert found.statuses[200] >= 20, "the burst is let through"
    async with site.nginx.client() as http:
        refused = await _first_refused(http)
        assert (await http.get("/healthz")).status_code == 200
    assert refused.headers["retry-after"] == "1"
    _is_error(refused, 429, "rate_limit_exceeded")
    async with site.nginx.client("127.0.0.2") as another:
        assert (await another.get("/v1/models")).status_code == 200


async def _first_refused(http: httpx.AsyncClient) -> httpx.Response:
    for _ in range(10):
        for answer in await asyncio.gather(*(http.get("/v1/models") for _ in range(30))):
            if answer.status_code != 200:
                return answer
    raise AssertionError("none was")


def _is_error(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert answer.json()["error"]["code"] == code, answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"url": "/metrics"}, 404, "not_found"),
        ({"url": "/v1/../metrics"}, 404, "not_found"),
        ({"url": "/%6detrics"}, 404, "not_found"),
        ({"url": f"/v1/jobs?{'x' * 9_000}"}, 414, "url_too_long"),
        ({"url": "/v1/jobs", "headers": {"x-long": "x" * 9_000}}, 431, "headers_too_large"),
        (
            {"method": "POST", "url": "/v1/jobs", "content": bytes(Settings().max_body_bytes + 1)},
            413,
            "body_too_large",
        ),
    ],
    ids=["metrics", "by way of a parent", "spelt otherwise", "long URL", "long head", "long body"],
)
async def test_what_nginx_refuses_is_an_error_as_the_api_has_them(
    site: Site, asked: dict[str, Any], status: int, code: str
) -> None:
    async with site.nginx.client("127.0.0.3") as http:
        _is_error(await http.request(**{"method": "GET", **asked}), status, code)


async def test_a_body_of_the_usual_limit_reaches_a_gateway(site: Site) -> None:
    async with site.nginx.client("127.0.0.3") as http:
        answer = await http.post("/v1/jobs", content=b" " * Settings().max_body_bytes)
    assert answer.json()["error"]["code"] == "invalid_json", answer.text


async def test_http_without_tls_is_refused_and_http_2_is_offered(site: Site) -> None:
    async with httpx.AsyncClient() as http:
        _is_error(await http.get(f"http://127.0.0.1:{site.nginx.port}/"), 400, "invalid_http")
    assert await asyncio.to_thread(_agreed_on, site) == "h2"


def _agreed_on(site: Site) -> str | None:
    """Which HTTP is agreed on. The connection is closed without a word: nginx has begun to talk already."""
    context = site.nginx.trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", site.nginx.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        return tls.selected_alpn_protocol()


async def test_docs_and_health_are_published(site: Site) -> None:
    async with site.nginx.client("127.0.0.3") as http:
        for path in ("/docs", "/docs/page.js", "/openapi.json", "/healthz", "/readyz"):
            assert (await http.get(path)).status_code == 200, path


async def test_a_dead_gateway_is_passed_over(site: Site) -> None:
    async with site.nginx.client("127.0.0.4") as http:
        for _ in range(6):
            answer = await http.post("/v1/chat/completions", json=ASKED)
            assert answer.json()["choices"][0]["message"]["content"] == "one two three"
        site.second.kill()
        for _ in range(6):
            answer = await http.post("/v1/chat/completions", json=ASKED)
            assert answer.status_code == 200, answer.text


async def _hang_up(_: Exchange) -> None:
    """What a gateway that is killed does."""


def _port(fake: Fake) -> int:
    return int(fake.url.rpartition(":")[2])


async def test_what_was_sent_to_a_gateway_that_is_lost_is_sent_again_only_if_it_changes_nothing(
    tmp_path: Path, certificate: Certificate
) -> None:
    async with serving(_hang_up) as lost:
        with in_front_of([_port(lost)] * 3, tmp_path, certificate) as nginx:
            async with nginx.client() as http:
                posted = await http.post("/v1/jobs", json={})
                keyed = await http.post("/v1/jobs", json={}, headers={"Idempotency-Key": "one"})
                assert len(lost.exchanges) == 2
                await http.get("/v1/jobs")
                assert len(lost.exchanges) == 5
                lost.refuse()
                never_sent = await http.post("/v1/jobs", json={})
    for answer in (posted, keyed, never_sent):
        _is_error(answer, 502, "gateway_unavailable")
        assert answer.headers["retry-after"] == "1"
    assert posted.headers["x-should-retry"] == "false"
    assert "x-should-retry" not in keyed.headers, "its caller may, and finds its job"
    assert "x-should-retry" not in never_sent.headers


async def test_a_gateway_is_told_who_asks_by_nginx_alone(
    tmp_path: Path, certificate: Certificate
) -> None:
    sent = {"X-Forwarded-For": "198.51.100.1", "X-Request-ID": "of-the-client"}
    async with serving(always(503, {"error": "its own"})) as gateway:
        with in_front_of([_port(gateway)] * 3, tmp_path, certificate) as nginx:
            async with nginx.client("127.0.0.5") as http:
                answer = await http.get("/v1/jobs?tenant=secret", headers=sent)
                await http.get("/v1/jobs")
    assert answer.json() == {"error": "its own"}, "a gateway's error is passed on as it is"
    first, second = gateway.exchanges
    assert first.headers["x-forwarded-for"] == first.headers["x-real-ip"] == "127.0.0.5"
    assert first.headers["x-forwarded-proto"] == "https"
    assert first.headers["host"] == "127.0.0.1"
    assert first.headers["x-request-id"] == "of-the-client"
    assert len(second.headers["x-request-id"]) == 32
    log = (tmp_path / "nginx.log").read_text("utf-8")
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert [line["request_id"] for line in lines] == [
        exchange.headers["x-request-id"] for exchange in gateway.exchanges
    ]
    assert (lines[0]["path"], lines[0]["status"]) == ("/v1/jobs", 503)
    assert "secret" not in log
