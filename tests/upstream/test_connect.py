"""Finding out what kind of server is at an address."""

from typing import Any

import pytest

from consumers.upstream.base import Upstream
from consumers.upstream.connect import connect
from consumers.upstream.echo import EchoUpstream
from consumers.upstream.ollama import OllamaUpstream
from consumers.upstream.openai import OpenAIUpstream
from core.events import ErrorKind
from core.settings import UpstreamKind
from tests.servers import free_port
from tests.upstream.asking import PATIENT, fails
from tests.upstream.fake import Exchange, Script, answers, serving

VERSION = answers(200, {"version": "0.5.1"})
NOT_FOUND = answers(404, {"error": {"message": "File Not Found"}})


async def kind_at(url: str, kind: UpstreamKind | None = None) -> type[Upstream]:
    upstream = await connect(url, kind, None, PATIENT)
    await upstream.aclose()
    return type(upstream)


async def kind_of(script: Script, suffix: str = "") -> type[Upstream]:
    async with serving(script) as fake:
        return await kind_at(fake.url + suffix)


async def test_a_server_that_tells_ollamas_version_is_an_ollama() -> None:
    async with serving(VERSION) as fake:
        upstream = await connect(fake.url, None, "sk-1", PATIENT)
        await upstream.aclose()
    assert isinstance(upstream, OllamaUpstream)
    assert fake.asked.path == "/api/version"
    assert fake.asked.headers["authorization"] == "Bearer sk-1"


OTHERS: list[Script] = [
    NOT_FOUND,
    answers(200, b"<!doctype html>"),
    answers(200, {"detail": "not an Ollama"}),
    answers(200, ["version"]),
    answers(401, {"error": "Unauthorized"}),
    answers(405, b""),
    answers(500, b""),
]


@pytest.mark.parametrize("script", OTHERS)
async def test_any_other_server_speaks_openai(script: Script) -> None:
    assert await kind_of(script) is OpenAIUpstream


@pytest.mark.parametrize("suffix", ["/v1", "/v1/"])
async def test_an_address_that_ends_in_v1_is_openai_even_of_an_ollama(suffix: str) -> None:
    assert await kind_of(VERSION, suffix) is OpenAIUpstream


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_v1_is_asked_for_once_however_the_address_ends(suffix: str) -> None:
    async with serving(answers(200, {"data": [{"id": "gemma"}]})) as fake:
        upstream = await connect(fake.url + suffix, UpstreamKind.OPENAI, None, PATIENT)
        assert await upstream.models() == {"gemma"}
        await upstream.aclose()
    assert upstream.address == fake.url
    assert fake.asked.path == "/v1/models"


@pytest.mark.parametrize("suffix", ["", "/v1"])
async def test_a_server_may_be_behind_a_path(suffix: str) -> None:
    async with serving(answers(200, {"data": []})) as fake:
        upstream = await connect(f"{fake.url}/gpu{suffix}", UpstreamKind.OPENAI, None, PATIENT)
        await upstream.models()
        await upstream.aclose()
    assert fake.asked.path == "/gpu/v1/models"


@pytest.mark.parametrize("url", ["echo:", "echo://", "echo://?tokens=3"])
async def test_an_echo_is_known_by_its_address(url: str) -> None:
    assert await kind_at(url) is EchoUpstream


KINDS: list[tuple[UpstreamKind, Any]] = [
    (UpstreamKind.OPENAI, OpenAIUpstream),
    (UpstreamKind.OLLAMA, OllamaUpstream),
]


@pytest.mark.parametrize(("kind", "adapter"), KINDS)
async def test_a_server_whose_kind_is_told_is_not_asked(kind: UpstreamKind, adapter: Any) -> None:
    assert await kind_at(f"http://127.0.0.1:{free_port()}", kind) is adapter


async def test_nobody_there_is_an_error() -> None:
    with fails(ErrorKind.CONNECT, "cannot be reached"):
        await kind_at(f"http://127.0.0.1:{free_port()}")


async def test_an_address_that_is_no_url_is_an_error() -> None:
    with fails(ErrorKind.CONNECT, "localhost:11434"):
        await kind_at("localhost:11434")


async def test_a_server_that_is_still_loading_has_not_said_what_it_is() -> None:
    with fails(ErrorKind.OVERLOAD, "Loading model"):
        await kind_of(answers(503, {"error": {"message": "Loading model", "code": 503}}))


async def test_a_server_that_hangs_up_has_not_said_what_it_is() -> None:
    async def hang_up(exchange: Exchange) -> None:
        pass

    with fails(ErrorKind.LOST_STREAM):
        await kind_of(hang_up)


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(NOT_FOUND) as proxy, serving(VERSION) as fake:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        assert await kind_at(fake.url) is OllamaUpstream
    assert proxy.exchanges == []
