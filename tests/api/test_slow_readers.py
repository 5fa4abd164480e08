"""A reader that stops reading: bounded in memory, cut with a reason, and nobody else's trouble."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from core.commands import Claim
from core.output import Emitter, Write
from core.store import EventStore
from tests.api.conftest import Api, OpenApi
from tests.api.soon import listeners, soon
from tests.api.sse import streaming
from tests.given import a_job
from tests.processes import respool
from tests.servers import RedisServer, free_port

CHUNK = b'{"text":"' + b"x" * 2_000 + b'"}'
CHUNKS = 20_000
STALL_SECONDS = 1


@asynccontextmanager
async def one_who_does_not_read(url: str, path: str) -> AsyncIterator[asyncio.StreamReader]:
    """A connection that asks for a stream and takes no more of it than fits into its buffers."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1_024)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: api\r\n\r\n".encode())
    try:
        yield reader
    finally:
        writer.transport.abort()


async def a_job_that_says(store: EventStore, chunks: int) -> str:
    job_id = await a_job(store)
    await store.execute(job_id, Claim("w"))
    emitter = Emitter(store, 10.0)
    for first in range(1, chunks + 1, 500):
        assert await emitter.emit(Write(job_id, 1, "w", first, (CHUNK,) * 500))
    return job_id


async def test_it_is_cut_with_a_reason_and_its_place_is_free(
    open_api: OpenApi, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    api = await open_api(store, stream_stall_seconds=STALL_SECONDS)
    job_id = await a_job_that_says(store, 10_000)
    path = f"/v1/jobs/{job_id}/output"
    with caplog.at_level(logging.WARNING, "api.sse"):
        async with one_who_does_not_read(str(api.http.base_url), path) as reader:
            await soon(lambda: listeners(api, job_id) == 1)
            await soon(lambda: listeners(api, job_id) == 0)
            await soon(lambda: api.desk.streams.open == 0)
            assert not (await rest_of(reader)).endswith(b"0\r\n\r\n")  # Not as if it were all.
    assert "was cut: 127.0.0.1:" in caplog.text
    assert f"took nothing for {STALL_SECONDS} s" in caplog.text


async def test_a_reader_that_only_pauses_misses_nothing(
    open_api: OpenApi, store: EventStore
) -> None:
    api = await open_api(store, stream_stall_seconds=10)
    job_id = await a_job_that_says(store, 10_000)
    path = f"/v1/jobs/{job_id}/output"
    async with one_who_does_not_read(str(api.http.base_url), path) as reader:
        await soon(lambda: listeners(api, job_id) == 1)
        text = b""
        async with asyncio.timeout(20):
            while b"id: 1-10000\r\n" not in text:
                text = text[-1_000:] + await reader.read(65_536)


async def test_it_costs_a_page_of_chunks_and_nobody_else_anything(
    server: RedisServer, store: EventStore, tmp_path: Path
) -> None:
    """Twenty thousand chunks of 2 kB, 40 MB in all: what is held of them for a reader is far less."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"REDIS_URL": server.url, "API_PORT": str(port)}
    with respool(
        tmp_path / "api.log",
        "api",
        **settings,
        STREAM_STALL_SECONDS="5",
        LOG_FORMAT="json",
    ) as process:
        async with httpx.AsyncClient(base_url=url, timeout=20) as http:
            await soon(lambda: answers(http))
            job_id = await a_job_that_says(store, 500)
            path = f"/v1/jobs/{job_id}/output"
            async with one_who_does_not_read(url, path), one_who_does_not_read(url, path):
                emitter = Emitter(store, 10.0)
                before = resident_bytes(process.pid)
                api = Api(store, None, None, http)  # type: ignore[arg-type]
                async with streaming(api, path) as other:
                    await other.take(500)
                    for first in range(501, CHUNKS + 1, 500):
                        assert await emitter.emit(Write(job_id, 1, "w", first, (CHUNK,) * 500))
                        await other.take(500)
                assert resident_bytes(process.pid) - before < 16 * 1024 * 1024
                await soon(lambda: process.output.count("was cut") == 2)


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(20):
        return await reader.read()


async def answers(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/healthz")).is_success
    except httpx.HTTPError:
        return False


def resident_bytes(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]
    return int(pages) * 4_096
