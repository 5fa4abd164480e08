"""A real model under llama.cpp's own server: the smallest answer, two refusals, and a client that leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from cli.demo import MODEL, demo_model, is_installed
from consumers.upstream.base import Call, Chunk, Limits, Upstream
from consumers.upstream.connect import connect
from consumers.upstream.openai import OpenAIUpstream
from core.events import ErrorKind, Kind
from tests.servers import free_port
from tests.upstream.asking import ask, call, fails

LIMITS = Limits(first_token_seconds=60, silence_seconds=60)
FREE_SECONDS_MAX = 10.0
CONTEXT_WORDS = 5_000

pytestmark = [
    pytest.mark.skipif(
        not is_installed(), reason="the demo model is not installed: `make demo` does it"
    ),
]


@asynccontextmanager
async def real_model(data_dir: Path) -> AsyncIterator[Upstream]:
    async with demo_model(data_dir, free_port(), slots=2) as url:
        upstream = await connect(url, None, None, LIMITS)
        try:
            yield upstream
        finally:
            await upstream.aclose()


def question(text: str, tokens: int) -> Call:
    messages = [{"role": "user", "content": text}]
    return call(messages=messages, max_tokens=tokens, stop=["\nuser:"], temperature=0)


async def slots_become_free(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(FREE_SECONDS_MAX):
        while True:
            slots = (await client.get(f"{url}/slots")).json()
            if not any(slot["is_processing"] for slot in slots):
                return True
            await asyncio.sleep(0.05)


async def test_a_real_model_answers_refuses_and_notices_who_leaves(tmp_path: Path) -> None:
    async with real_model(tmp_path) as upstream:
        assert isinstance(upstream, OpenAIUpstream)
        assert await upstream.models() == {MODEL}

        said = await ask(upstream, question("What is the capital of France?", 30))
        assert "Paris" in said.choice["message"]["content"]
        assert said.choice["finish_reason"] in {"stop", "length"}
        assert len(said.chunks) > 1
        assert said.usage is not None
        assert said.usage.prompt_tokens > 0
        assert said.usage.completion_tokens > 0

        with fails(ErrorKind.BAD_REQUEST, "embeddings"):
            await ask(upstream, call(Kind.EMBEDDINGS))
        with fails(ErrorKind.BAD_REQUEST, "context"):
            await ask(upstream, question("word " * CONTEXT_WORDS, 1))

        stream = upstream.stream(question("Count to a thousand.", 2_000))
        assert isinstance(await anext(stream), Chunk)
        await stream.aclose()
        assert await slots_become_free(upstream.address)
