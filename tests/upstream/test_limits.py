"""How long and how much a server may say, and that whoever leaves is seen to leave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from consumers.upstream import http
from consumers.upstream.base import Chunk, Limits
from consumers.upstream.openai import OpenAIUpstream
from core.events import ErrorKind, Kind
from tests.upstream.asking import PATIENT, ask, call, fails
from tests.upstream.fake import (
    Exchange,
    Fake,
    Script,
    events,
    falls_silent,
    hangs,
    serving,
    streams,
)

HASTY_AT_FIRST = Limits(first_token_seconds=0.2, silence_seconds=30)
HASTY_LATER = Limits(first_token_seconds=30, silence_seconds=0.2)
HELLO = events(
    {"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
)
LEAVING_SECONDS_MAX = 5.0


@asynccontextmanager
async def asking(script: Script, limits: Limits) -> AsyncIterator[tuple[OpenAIUpstream, Fake]]:
    async with serving(script) as fake:
        upstream = OpenAIUpstream(fake.url, None, limits)
        try:
            yield upstream, fake
        finally:
            await upstream.aclose()


async def client_has_left(fake: Fake) -> None:
    """Wait until the server sees the end of the connection."""
    async with asyncio.timeout(LEAVING_SECONDS_MAX):
        await fake.asked.client_left.wait()


async def send_until_left(exchange: Exchange, data: bytes) -> None:
    while not exchange.client_left.is_set():
        await exchange.send(data)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", list(Kind))
async def test_a_server_that_does_not_answer_is_a_timeout_and_is_left(kind: Kind) -> None:
    async with asking(hangs, HASTY_AT_FIRST) as (upstream, fake):
        with fails(ErrorKind.TIMEOUT, "an answer within 0.2 s"):
            await ask(upstream, call(kind))
        await client_has_left(fake)


async def test_a_server_that_begins_without_a_token_is_a_timeout_and_is_left() -> None:
    async with asking(falls_silent(), HASTY_AT_FIRST) as (upstream, fake):
        with fails(ErrorKind.TIMEOUT, "a first token within 0.2 s"):
            await ask(upstream, call())
        await client_has_left(fake)


async def test_the_first_token_counts_from_the_request_not_from_the_head_of_the_answer() -> None:
    async def take_time_twice(exchange: Exchange) -> None:
        await asyncio.sleep(0.12)
        await exchange.start()
        await asyncio.sleep(0.12)
        await exchange.send(b"".join(HELLO))
        await exchange.end()

    async with asking(take_time_twice, HASTY_AT_FIRST) as (upstream, _):
        with fails(ErrorKind.TIMEOUT):
            await ask(upstream, call())


async def test_a_server_that_falls_silent_between_tokens_is_a_timeout_and_is_left() -> None:
    async with asking(falls_silent(HELLO[:1]), HASTY_LATER) as (upstream, fake):
        with fails(ErrorKind.TIMEOUT, "another token within 0.2 s"):
            await ask(upstream, call())
        await client_has_left(fake)


@pytest.mark.parametrize("limits", [HASTY_AT_FIRST, HASTY_LATER])
async def test_comments_are_silence(limits: Limits) -> None:
    async def keep_alive(exchange: Exchange) -> None:
        await exchange.start()
        if limits is HASTY_LATER:
            await exchange.send(HELLO[0])
        await send_until_left(exchange, b": keep-alive\n\n")

    async with asking(keep_alive, limits) as (upstream, _):
        with fails(ErrorKind.TIMEOUT):
            await ask(upstream, call())


async def test_a_stream_may_last_longer_than_any_silence() -> None:
    limits = Limits(first_token_seconds=30, silence_seconds=0.4)

    async def take_time(exchange: Exchange) -> None:
        await exchange.start()
        for piece in [*HELLO[:1] * 10, *HELLO[1:]]:
            await exchange.send(piece)
            await asyncio.sleep(0.05)
        await exchange.end()

    async with asking(take_time, limits) as (upstream, _):
        said = await ask(upstream, call())
    assert said.choice["message"]["content"] == "Hello" * 10


async def test_a_chunk_is_handed_on_before_the_next_one_comes() -> None:
    heard = asyncio.Event()

    async def wait_to_be_heard(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.send(HELLO[0])
        await heard.wait()
        await exchange.send(b"".join(HELLO[1:]))
        await exchange.end()

    async with asking(wait_to_be_heard, PATIENT) as (upstream, _):
        stream = upstream.stream(call())
        assert isinstance(await anext(stream), Chunk)
        heard.set()
        assert len([item async for item in stream]) == 2


async def test_closing_the_generator_closes_the_connection() -> None:
    async with asking(falls_silent(HELLO[:1]), PATIENT) as (upstream, fake):
        stream = upstream.stream(call())
        await anext(stream)
        assert not fake.asked.client_left.is_set()
        await stream.aclose()
        await client_has_left(fake)


async def test_cancelling_the_task_closes_the_connection() -> None:
    is_asked = asyncio.Event()

    async def never_answer(exchange: Exchange) -> None:
        is_asked.set()
        await exchange.client_left.wait()

    async with asking(never_answer, PATIENT) as (upstream, fake):
        task = asyncio.create_task(ask(upstream, call()))
        await is_asked.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client_has_left(fake)
        assert task.cancelled()


async def test_a_server_may_take_another_request_after_an_answer() -> None:
    async with asking(streams(HELLO), PATIENT) as (upstream, fake):
        bodies = [(await ask(upstream, call())).body for _ in range(3)]
    assert len(set(bodies)) == 1
    assert len(fake.exchanges) == 3


async def test_a_line_without_end_is_a_server_error_and_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "LINE_BYTES_MAX", 10_000)

    async def never_end_the_line(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.send(b"data: ")
        await send_until_left(exchange, b"x" * 5_000)

    async with asking(never_end_the_line, PATIENT) as (upstream, fake):
        with fails(ErrorKind.SERVER_ERROR, "longer than 10000 bytes"):
            await ask(upstream, call())
        await client_has_left(fake)


async def test_an_error_without_end_is_read_in_part_and_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "ERROR_BYTES_MAX", 10_000)

    async def never_end_the_error(exchange: Exchange) -> None:
        await exchange.raw(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n")
        await send_until_left(exchange, b"no " * 1_000)

    async with asking(never_end_the_error, PATIENT) as (upstream, fake):
        with fails(ErrorKind.SERVER_ERROR, "no no no"):
            await ask(upstream, call())
        await client_has_left(fake)


async def test_an_error_that_never_comes_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_ASK_SECONDS", 0.05)

    async def begin_an_error(exchange: Exchange) -> None:
        await exchange.raw(b"HTTP/1.1 500 No\r\nContent-Length: 10\r\n\r\n")
        await exchange.client_left.wait()

    async with asking(begin_an_error, PATIENT) as (upstream, fake):
        with fails(ErrorKind.TIMEOUT, "the rest of an error"):
            await ask(upstream, call())
        await client_has_left(fake)
