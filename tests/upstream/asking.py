"""Calls to ask an upstream, and what it answered."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import pytest
from msgspec import Raw, Struct

from consumers.upstream.base import Answer, Call, Limits, Upstream, UpstreamError
from core.events import ErrorKind, JobError, Kind, Usage

PATIENT = Limits(connect_seconds=5, first_token_seconds=5, silence_seconds=5)

_USUAL: Final[dict[Kind, dict[str, Any]]] = {
    Kind.CHAT: {"messages": [{"role": "user", "content": "Hello?"}]},
    Kind.COMPLETIONS: {"prompt": "Hello"},
    Kind.EMBEDDINGS: {"input": "Hello"},
}


class Said(Struct):
    """All that a stream said."""

    chunks: list[bytes]
    body: bytes
    usage: Usage | None

    @property
    def fields(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def choice(self) -> Any:
        """The only choice of the body."""
        (choice,) = self.fields["choices"]
        return choice


def call(kind: Kind = Kind.CHAT, *, traceparent: str | None = None, **request: Any) -> Call:
    """One attempt at `request`, or at a question that suits the kind."""
    return Call(kind, "llama3.2", Raw(msgspec.json.encode(request or _USUAL[kind])), traceparent)


async def ask(upstream: Upstream, what: Call) -> Said:
    """Read a stream to its end, and see that the answer comes last and once."""
    items = [item async for item in upstream.stream(what)]
    *chunks, answer = items
    assert isinstance(answer, Answer)
    pieces = []
    for chunk in chunks:
        assert not isinstance(chunk, Answer)
        pieces.append(chunk.data)
    return Said(pieces, answer.body, answer.usage)


class Failure(Struct):
    """How an attempt failed, once it has."""

    error: JobError = JobError(ErrorKind.POISONED, "it did not fail yet")


@contextmanager
def fails(kind: ErrorKind, *words: str) -> Iterator[Failure]:
    """What is inside must fail with an error of this kind that says these words."""
    failure = Failure()
    with pytest.raises(UpstreamError) as raised:
        yield failure
    failure.error = raised.value.error
    assert failure.error.kind is kind, failure.error
    for word in words:
        assert word in failure.error.message
