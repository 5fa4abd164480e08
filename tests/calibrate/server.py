"""An inference server on a GPU of its own: it runs so many requests at once, and each takes its memory."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import msgspec

from consumers.upstream.base import Answer, Call, Chunk, UpstreamError
from core.events import ErrorKind, Usage
from core.roster import GpuMemory
from tests.gpus.nvml import GIB
from tests.upstream.behaving import MODELS
from tests.upstream.fake import Exchange, answers, events, serving

TOKENS: Final = 100
USAGE: Final = Usage(5, TOKENS, 5 + TOKENS)
FOR_EVER: Final = "Think."  # A prompt that it never answers.
_FULL: Final = "CUDA out of memory"


class Server:
    """What it does with requests, and how full its GPU is meanwhile. It is an upstream, or serves HTTP."""

    address = "http://gpu:8000"

    def __init__(
        self,
        *,
        slots: int = 100,
        total_gib: float = 32.0,
        base_gib: float = 8.0,
        per_request_gib: float = 0.0,
        token_seconds: float = 0.02,
        changed: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.prompts: list[str] = []
        self.at_once = 0  # The most that ever ran.
        self._slots = asyncio.Semaphore(slots)
        self._total_gib, self._base_gib, self._each_gib = total_gib, base_gib, per_request_gib
        self._token_seconds = token_seconds
        self._running = 0
        self._changed = changed

    async def look(self) -> tuple[GpuMemory, ...]:
        return (GpuMemory(0, round(self.used_gib * GIB), round(self._total_gib * GIB)),)

    @property
    def used_gib(self) -> float:
        return self._base_gib + self._running * self._each_gib

    async def models(self) -> frozenset[str]:
        return frozenset({"echo"})

    async def aclose(self) -> None:
        pass

    async def stream(self, call: Call) -> AsyncGenerator[Chunk | Answer, None]:
        async for token in self._tokens(msgspec.json.decode(call.request)):
            if token is None:
                raise UpstreamError(ErrorKind.OUT_OF_MEMORY, _FULL)
            yield Chunk(token)
        yield Answer(b"{}", USAGE)

    async def answer(self, exchange: Exchange) -> None:
        """As `stream`, over HTTP."""
        if exchange.path == "/v1/models":
            await answers(200, MODELS)(exchange)
        elif exchange.body is None:
            await answers(404, {"error": {"message": "there is no such path"}})(exchange)
        else:
            await self._answer_with_tokens(exchange)

    async def _answer_with_tokens(self, exchange: Exchange) -> None:
        await exchange.start()
        async for token in self._tokens(exchange.body):
            assert token is not None
            await exchange.send(token)
        await exchange.send(b"".join(events({"choices": [], "usage": USAGE})))
        await exchange.end()

    async def _tokens(self, request: Any) -> AsyncIterator[bytes | None]:
        """Pieces of a stream of events; None if memory is full."""
        self.prompts.append(request["messages"][-1]["content"])
        async with self._slots:
            with self._running_one():
                if self.prompts[-1] == FOR_EVER:
                    await asyncio.Event().wait()
                for at in range(TOKENS):
                    await asyncio.sleep(self._token_seconds)
                    if self.used_gib > self._total_gib:
                        yield None
                    reason = "stop" if at == TOKENS - 1 else None
                    choice = {"index": 0, "delta": {"content": " word"}, "finish_reason": reason}
                    yield b"".join(events({"choices": [choice]}, done=False))

    @contextmanager
    def _running_one(self) -> Iterator[None]:
        self._running += 1
        self.at_once = max(self.at_once, self._running)
        self._changed(self.used_gib)
        try:
            yield
        finally:
            self._running -= 1
            self._changed(self.used_gib)


@asynccontextmanager
async def over_http(server: Server) -> AsyncIterator[str]:
    """The server's URL, until the block ends."""
    async with serving(server.answer) as fake:
        yield fake.url
