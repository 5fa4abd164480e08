"""A served process, on the event loop that it is shipped with, keeps the limits of a connection."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from core.store import EventStore
from tests.api.wire import get, line_to, post
from tests.processes import Process, respool
from tests.servers import RedisServer, free_port

_START_SECONDS = 30.0


@pytest.fixture
async def api(
    server: RedisServer, store: EventStore, tmp_path: Path
) -> AsyncIterator[tuple[Process, str]]:
    """A process that serves, and its URL."""
    port = free_port()
    settings = {"API_PORT": str(port), "BODY_TIMEOUT_SECONDS": "1", "MAX_BODY_BYTES": "65536"}
    with respool(tmp_path / "api.log", "api", REDIS_URL=server.url, **settings) as process:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient() as http, asyncio.timeout(_START_SECONDS):
            while True:
                try:
                    assert (await http.get(f"{url}/healthz")).is_success
                    break
                except httpx.TransportError:
                    assert not process.has_ended, process.output
                    await asyncio.sleep(0.05)
        yield process, url


async def test_a_process_keeps_its_limits_and_its_calm(api: tuple[Process, str]) -> None:
    process, url = api
    for sent, status, code in [
        (b"\x16\x03\x01 hello", 400, "invalid_http"),
        (get("/healthz", f"X: {'x' * 32_768}"), 431, "headers_too_large"),
        (get(f"/{'x' * 8_192}"), 414, "url_too_long"),
        (post("/v1/jobs", b"{", length=2), 408, "body_too_slow"),
        (post("/v1/jobs", b"{", length=65_537), 413, "body_too_large"),
        (post("/v1/jobs", b"x\r\n", "Transfer-Encoding: chunked"), 400, "invalid_http"),
    ]:
        async with line_to(url) as line:
            await line.send(sent)
            (await line.answer()).error(status, code)
            assert await line.rest() == b""
    async with line_to(url) as line:
        await line.send(post("/v1/jobs", b"", "Transfer-Encoding: chunked"))
        for _ in range(100):
            await line.send(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
        (await line.answer()).error(413, "body_too_large")
        await line.is_gone()
    async with line_to(url) as line:
        await line.send(post("/v1/jobs", b"{", length=9))
        line.end()
    async with line_to(url) as line:
        await line.send(get("/healthz") * 3)
        assert [(await line.answer()).status for _ in range(3)] == [200] * 3
    assert "Traceback" not in process.output
    assert "[error" not in process.output
    assert "Invalid HTTP" not in process.output  # Whoever likes could fill a disk with it.
