"""An inference server that lists its model, and does with every request as a test's script says."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from consumers.upstream.base import Limits
from consumers.upstream.openai import OpenAIUpstream
from tests.upstream.asking import PATIENT
from tests.upstream.fake import Exchange, Fake, Script, answers, events, serving, streams

MODELS = {"object": "list", "data": [{"id": "echo", "object": "model"}]}
HELLO = events(
    {"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
)
says_hello = streams(HELLO)


@asynccontextmanager
async def behaving(
    *scripts: Script, limits: Limits = PATIENT
) -> AsyncIterator[tuple[OpenAIUpstream, Fake]]:
    """The server and its adapter; each script answers one request, and the last one all that follow."""
    script = _in_turn(*scripts)
    async with serving(script) as fake:
        upstream = OpenAIUpstream(fake.url, None, limits)
        try:
            yield upstream, fake
        finally:
            await upstream.aclose()


def _in_turn(*scripts: Script) -> Script:
    turns: Iterator[Script] = iter(scripts)
    last = scripts[-1]

    async def script(exchange: Exchange) -> None:
        if exchange.path == "/v1/models":
            await answers(200, MODELS)(exchange)
        else:
            await next(turns, last)(exchange)

    return script


def requests(fake: Fake) -> list[Exchange]:
    """What the server was asked, but for its models."""
    return [exchange for exchange in fake.exchanges if exchange.path != "/v1/models"]
