"""Cancelling a job stops the generation of a real model: llama.cpp's own counters say so."""

import asyncio
from pathlib import Path

import httpx
import pytest

from cli.demo import MODEL, demo_model, is_installed
from consumers.upstream.base import Limits
from consumers.upstream.connect import connect
from core.store import EventStore
from tests.api.conftest import Api
from tests.api.sse import streaming
from tests.api.workers import working
from tests.servers import RedisServer, free_port

pytestmark = pytest.mark.skipif(
    not is_installed(), reason="the demo model is not installed: `make demo` does it"
)

TOKENS = 1_500  # As many as would take far longer than the test.
FREE_SECONDS_MAX = 10.0
WATCHED_SECONDS = 1.0
COUNT = {"messages": [{"role": "nobody", "content": "Count: 1, 2, 3,"}], "max_tokens": TOKENS}


class LlamaCpp:
    """What a llama.cpp server says of its work."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def is_generating(self) -> bool:
        slots = (await self._http.get("/slots")).json()
        return any(slot["is_processing"] for slot in slots)

    async def counted(self, name: str) -> int:
        """One of its counters."""
        lines = (await self._http.get("/metrics")).text.splitlines()
        [value] = [line.split()[1] for line in lines if line.startswith(f"llamacpp:{name} ")]
        return int(value)


async def test_a_cancelled_job_s_generation_stops(
    api: Api, store: EventStore, server: RedisServer, tmp_path: Path
) -> None:
    async with (
        demo_model(tmp_path, free_port(), slots=2) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http,
    ):
        model = LlamaCpp(http)
        upstream = await connect(url, None, None, Limits())
        async with working(store, server.url, upstream):
            job_id = await api.submit(model=MODEL, request=COUNT)
            async with streaming(api, f"/v1/jobs/{job_id}/output") as stream:
                for _ in range(5):
                    assert (await stream.next()).event == "chunk"
            assert await model.is_generating()
            before = await model.counted("n_decode_total")
            await api.http.post(f"/v1/jobs/{job_id}/cancel")
            assert (await api.job(job_id, wait=10))["status"] == "cancelled"
            async with asyncio.timeout(FREE_SECONDS_MAX):
                while await model.is_generating():
                    await asyncio.sleep(0.05)
            stopped = await model.counted("n_decode_total")
            await asyncio.sleep(WATCHED_SECONDS)
            assert await model.counted("n_decode_total") == stopped
            assert before <= stopped < TOKENS
            assert await model.counted("tokens_predicted_total") < TOKENS
        await upstream.aclose()
