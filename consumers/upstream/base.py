"""The one interface that a worker needs of an inference server, and the errors that it may raise.

An upstream is always streamed from, whatever the client asked for: closing the connection is what
stops the GPU, and only a stream tells when the first token came. The adapter turns the server's
dialect into OpenAI's: each `Chunk` is one object of OpenAI's stream, and the `Answer` is the body
that the server would have sent without streaming.
"""

from collections.abc import AsyncGenerator
from typing import Protocol

from msgspec import Raw, Struct

from core.events import ErrorKind, JobError, Kind, Usage


class Call(Struct, frozen=True):
    """One attempt's request."""

    kind: Kind
    model: str
    request: Raw  # OpenAI's request body for the kind, as the client sent it.
    traceparent: str | None = None


class Chunk(Struct, frozen=True):
    """A piece of the answer: one JSON object of OpenAI's stream, as a client may see it."""

    data: bytes


class Answer(Struct, frozen=True):
    """The whole answer, always the last item of a stream."""

    body: bytes  # OpenAI's non-streaming body.
    usage: Usage | None


class Limits(Struct, frozen=True, kw_only=True):
    """How long to wait for an inference server, in seconds."""

    connect_seconds: float = 5.0
    first_token_seconds: float = 300.0  # A model may have to be loaded first.
    silence_seconds: float = 60.0  # Between two tokens.


class UpstreamError(Exception):
    """An attempt failed; `error` says why, in words for a person and in a kind for the retry policy."""

    def __init__(self, kind: ErrorKind, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.error = JobError(kind, message, retry_after_ms)


class Upstream(Protocol):
    """An inference server."""

    address: str

    async def models(self) -> frozenset[str]:
        """Name the models it serves now. Raises UpstreamError if it does not say."""
        ...

    def stream(self, call: Call) -> AsyncGenerator[Chunk | Answer, None]:
        """Run one request: chunks as they come, then the answer.

        Closing the generator closes the connection. Raises UpstreamError; a stream that ends
        without its finish marker raises one of kind LOST_STREAM.
        """
        ...

    async def aclose(self) -> None:
        """Close what it holds open."""
        ...
