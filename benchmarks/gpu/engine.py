"""An inference server around the model: continuous batching, OpenAI's streamed chat, and its own account of memory."""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, Final

import torch
from msgspec import Struct

from benchmarks.gpu.model import Model, Row
from tests.upstream.fake import Exchange, answers, events

NAME: Final = "random"
_MODELS: Final = {"object": "list", "data": [{"id": NAME, "object": "model"}]}
_BYTES_PER_TOKEN: Final = 4  # Of a prompt; a guess as good as any, for a model that reads noise.

Told = int | str | None  # A token, why there is none, or that it was the last.


class _Request(Struct):
    tokens: list[int]  # The next to be read: all of the prompt at first.
    left: int  # Tokens to be made.
    tell: Callable[[Told], object]
    is_abandoned: Callable[[], bool]
    begin: int = 0
    cache: Any = None


class Engine:
    """A thread that makes a token for every running request at each step; new ones join at the next.

    A request takes its cache when it begins, as Ollama does; with `preallocated` all caches are taken at the start, as
    vLLM does.
    """

    def __init__(self, model: Model, slots: int, *, preallocated: bool) -> None:
        self._model, self._slots = model, slots
        self._arriving: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._running: list[_Request] = []
        self._pool = [model.cache() for _ in range(slots)] if preallocated else None
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    async def answer(self, exchange: Exchange) -> None:
        """Answer a request over HTTP."""
        if exchange.path == "/v1/models":
            await answers(200, _MODELS)(exchange)
        elif exchange.path == "/v1/chat/completions" and exchange.body:
            await self._complete(exchange)
        else:
            await answers(404, {"error": {"message": "there is no such path"}})(exchange)

    async def _complete(self, exchange: Exchange) -> None:
        content = exchange.body["messages"][-1]["content"]
        prompt = [1 + byte for byte in content.encode()[::_BYTES_PER_TOKEN]]
        most = min(exchange.body.get("max_tokens", 256), self._model.shape.context - len(prompt))
        told: asyncio.Queue[Told] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(said: Told) -> None:
            loop.call_soon_threadsafe(told.put_nowait, said)

        self._arriving.put(_Request(prompt, most, tell, exchange.client_left.is_set))
        said = await told.get()
        if isinstance(said, str):
            await answers(500, {"error": {"message": said}})(exchange)
            return
        await exchange.start()
        made = 0
        while isinstance(said, int):
            made += 1
            delta = {"index": 0, "delta": {"content": f" {said}"}, "finish_reason": None}
            await exchange.send(b"".join(events({"choices": [delta]}, done=False)))
            said = await told.get()
        last = {"index": 0, "delta": {}, "finish_reason": "length"}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": made}
        usage |= {"total_tokens": len(prompt) + made}
        await exchange.send(b"".join(events({"choices": [last]}, {"choices": [], "usage": usage})))
        await exchange.end()

    def _run(self) -> None:
        while True:
            self._admit()
            if self._running:
                self._step()
                self._retire()

    def _admit(self) -> None:
        """Take what has come, as far as there are slots; with nothing to do, wait for it."""
        while len(self._running) < self._slots:
            is_idle = not self._running
            if is_idle and self._arriving.empty():
                torch.cuda.empty_cache()  # What nobody uses goes back to the device.
            try:
                request = self._arriving.get(block=is_idle)
            except queue.Empty:
                return
            self._begin(request)

    def _begin(self, request: _Request) -> None:
        try:
            request.cache = self._model.cache() if self._pool is None else self._pool.pop()
        except torch.OutOfMemoryError as error:
            request.tell(str(error))
        else:
            self._running.append(request)

    def _step(self) -> None:
        rows = [Row(one.cache, one.begin, one.tokens) for one in self._running]
        for request, row, token in zip(
            self._running, rows, self._model.next_tokens(rows), strict=True
        ):
            request.begin, request.tokens = row.end, [token]
            request.left -= 1
            request.tell(token)

    def _retire(self) -> None:
        running, self._running = self._running, []
        for request in running:
            if request.left and not request.is_abandoned():
                self._running.append(request)
                continue
            request.tell(None)
            if self._pool is not None:
                self._pool.append(request.cache)
            request.cache = None
