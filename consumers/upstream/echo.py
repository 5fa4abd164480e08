"""A deterministic stand-in for an inference server: it says what it was told, at the pace it is given.

`echo://?latency_ms=300&tokens=20&tokens_per_second=50` waits 300 ms before the first token, then sends
20 tokens at 50 a second. Without `tokens` it repeats the words of the prompt; without
`tokens_per_second` it sends them at once. It serves the one model `echo`.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from hashlib import blake2b
from itertools import cycle, islice
from math import inf
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec import Struct

from consumers.upstream.base import Answer, Call, Chunk, UpstreamError
from consumers.upstream.fold import Folding
from core.events import ErrorKind, Kind, Usage

MODEL: Final = "echo"
_VECTOR_NUMBERS: Final = 8


class Pace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an echo behaves."""

    latency_ms: float = 0
    tokens: int | None = None
    tokens_per_second: float | None = None


class EchoUpstream:
    """Raises ValueError for an address that it does not understand."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._pace = pace_of(address)

    async def aclose(self) -> None:
        pass

    async def models(self) -> frozenset[str]:
        return frozenset({MODEL})

    async def stream(self, call: Call) -> AsyncGenerator[Chunk | Answer, None]:
        words = _prompt(call).split() or ["nothing"]
        if self._pace.latency_ms:
            await asyncio.sleep(self._pace.latency_ms / 1_000)
        if call.kind is Kind.EMBEDDINGS:
            yield _embedding(" ".join(words), len(words))
            return
        count = len(words) if self._pace.tokens is None else self._pace.tokens
        usage = {"prompt_tokens": len(words), "completion_tokens": count}
        usage["total_tokens"] = len(words) + count
        folding = Folding(call.kind)
        for at, chunk in enumerate(_chunks(call.kind, words, count)):
            if self._pace.tokens_per_second and at > 0:
                await asyncio.sleep(1 / self._pace.tokens_per_second)
            folding.add(chunk)
            yield Chunk(msgspec.json.encode(chunk))
        folding.add({"usage": usage})
        yield Answer(folding.body(), folding.usage)


def pace_of(address: str) -> Pace:
    """Raises ValueError that says what is wrong with the address."""
    pairs = dict(parse_qsl(urlsplit(address).query, keep_blank_values=True))
    try:
        pace = msgspec.convert(pairs, Pace, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"{error}; takes echo://?latency_ms=300&tokens=20&tokens_per_second=50"
        ) from error
    is_paced = pace.tokens_per_second is None or 0 < pace.tokens_per_second < inf
    if not (0 <= pace.latency_ms < inf and (pace.tokens or 0) >= 0 and is_paced):
        raise ValueError("latency_ms and tokens start at 0, and tokens_per_second above it")
    return pace


def _chunks(kind: Kind, words: list[str], count: int) -> Iterator[dict[str, Any]]:
    for at, word in enumerate(islice(cycle(words), count)):
        yield _chunk(kind, word if at == 0 else f" {word}", None)
    yield _chunk(kind, "", "stop")


def _chunk(kind: Kind, text: str, finish_reason: str | None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish_reason}
    if kind is Kind.CHAT:
        choice["delta"] = {"role": "assistant", "content": text}
        name = "chat.completion.chunk"
    else:
        choice["text"] = text
        name = "text_completion"
    return {"id": MODEL, "object": name, "created": 0, "model": MODEL, "choices": [choice]}


def _prompt(call: Call) -> str:
    """What to repeat: the last message, the prompt, or the input. Raises UpstreamError."""
    try:
        asked = msgspec.json.decode(call.request)
        match call.kind:
            case Kind.CHAT:
                said = asked["messages"][-1]["content"]
            case Kind.COMPLETIONS:
                said = asked["prompt"]
            case Kind.EMBEDDINGS:
                said = asked["input"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        message = f"the request has not the shape of a {call.kind} request: {error!r}"
        raise UpstreamError(ErrorKind.BAD_REQUEST, message) from error
    return said if isinstance(said, str) else msgspec.json.encode(said).decode()


def _embedding(text: str, tokens: int) -> Answer:
    digest = blake2b(text.encode(), digest_size=_VECTOR_NUMBERS).digest()
    data = {"object": "embedding", "index": 0, "embedding": [byte / 255 for byte in digest]}
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    body = {"object": "list", "model": MODEL, "data": [data], "usage": usage}
    return Answer(msgspec.json.encode(body), Usage(tokens, 0, tokens))
