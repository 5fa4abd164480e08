"""Load on an inference server: so many requests always under way, and what comes of it."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from statistics import median, quantiles

from cli.calibrate.memory import Look, peak_of
from cli.calibrate.question import Question
from consumers.upstream.base import Answer, Upstream, UpstreamError
from core.calibration import Device, Level


class _Heard:
    """What all clients of a level have heard."""

    def __init__(self, clients: int) -> None:
        self.chunks = 0
        self.first_token_ms: list[float] = []
        self.answers = 0
        self.is_enough = False
        self.is_everybody_answered = asyncio.Event()
        self._waiting = set(range(clients))
        self._answered_chunks = 0
        self._answered_tokens = 0

    def answered(self, client: int, chunks: int, answer: Answer) -> None:
        self.answers += 1
        self._answered_chunks += chunks
        self._answered_tokens += chunks if answer.usage is None else answer.usage.completion_tokens
        self._waiting.discard(client)
        if not self._waiting:
            self.is_everybody_answered.set()

    @property
    def tokens(self) -> float:
        """Of all chunks, by what the server counted in those that belong to whole answers."""
        each = self._answered_tokens / self._answered_chunks if self._answered_chunks else 0.0
        return self.chunks * each


async def measure(
    upstream: Upstream,
    question: Question,
    numbers: Iterator[int],
    concurrency: int,
    seconds: float,
    devices: tuple[Device, ...],
    look: Look,
) -> Level:
    """What is seen with `concurrency` requests under way, for at least so many seconds.

    It goes on until every client had an answer and memory rises no more. What is then under way may end, and does
    not count: broken off, it would be part of the next level's load for as long as the server does not notice.
    Raises the UpstreamError of the first request that fails.
    """
    heard = _Heard(concurrency)
    failure: BaseException | None = None
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with peak_of(look) as peak:
        try:
            async with asyncio.TaskGroup() as clients:
                for client in range(concurrency):
                    clients.create_task(_keep_asking(upstream, question, numbers, heard, client))
                await asyncio.sleep(seconds)
                await heard.is_everybody_answered.wait()
                await peak.until_steady()
                heard.is_enough = True
                took, tokens = loop.time() - began, heard.tokens
        except* UpstreamError as failures:
            failure = failures.exceptions[0]
    if failure is not None:
        raise failure
    return Level(
        concurrency=concurrency,
        answers=heard.answers,
        seconds=round(took, 3),
        tokens_per_second=round(tokens / took, 2),
        first_token_ms=round(median(heard.first_token_ms or [0.0]), 2),
        first_token_p95_ms=round(_p95(heard.first_token_ms or [0.0]), 2),
        used_bytes=tuple(peak.used_bytes.get(one.index, one.base_bytes) for one in devices),
    )


async def _keep_asking(
    upstream: Upstream, question: Question, numbers: Iterator[int], heard: _Heard, client: int
) -> None:
    """One request after the other, until it is enough."""
    loop = asyncio.get_running_loop()
    while not heard.is_enough:
        asked_at, chunks = loop.time(), 0
        async with aclosing(upstream.stream(question.call(next(numbers)))) as items:
            async for item in items:
                if isinstance(item, Answer):
                    heard.answered(client, chunks, item)
                    continue
                if chunks == 0:
                    heard.first_token_ms.append((loop.time() - asked_at) * 1_000)
                chunks += 1
                heard.chunks += 1
        await asyncio.sleep(0)  # Of a stand-in that waits for nothing.


def _p95(values: list[float]) -> float:
    return quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]
