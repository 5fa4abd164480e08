"""A stream of server-sent events as an answer: counted, and cut when its reader does not read."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final, Self, cast

from litestar.response import Stream
from litestar.response.base import ASGIResponse
from litestar.types import Message, Receive, Scope, Send

from api.errors import ApiError
from core.access import Caller

log = logging.getLogger(__name__)

ABORT: Final = "respool.abort"  # The server's extension that closes a connection, sent or not.
_HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_RETRY_SECONDS: Final = 5  # When a stream ends, nobody knows.


class Place:
    """A stream that counts as open until it is given back; so does a block that is left by an error."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def give_back(self) -> None:
        """Count it no longer; once more changes nothing."""
        if self._give_back is not None:
            self._give_back()
        self._give_back = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.give_back()


class Streams:
    """The streams that this process has open: how many it allows, and how long one may stand still."""

    def __init__(self, open_max: int, stall_seconds: float) -> None:
        self.open = 0
        self.stall_seconds = stall_seconds
        self._open_max = open_max
        self._of_key: Counter[str] = Counter()

    def take(self, caller: Caller) -> Place:
        """A place for one more stream. Raises ApiError 429."""
        if self.open >= self._open_max:
            message = f"this API has {self.open} streams open, and allows {self._open_max}"
            raise _refusal("too_many_streams", message)
        key, allowed = caller.key, caller.limits.streams
        if key is not None and allowed is not None and self._of_key[key] >= allowed:
            message = f"the key {caller.name!r} has {allowed} streams open, as many as it may"
            raise _refusal("rate_limit_exceeded", message)
        self.open += 1
        if key is not None:
            self._of_key[key] += 1
        return Place(lambda: self._give_back(key))

    def _give_back(self, key: str | None) -> None:
        self.open -= 1
        if key is not None:
            self._of_key[key] -= 1
            if not self._of_key[key]:
                del self._of_key[key]

    def answer(
        self,
        events: AsyncGenerator[bytes, None],
        place: Place,
        headers: Mapping[str, str] | None = None,
    ) -> "EventStream":
        """`events` as an answer, which gives the place back when it is over, however that comes."""
        return EventStream(events, place, self.stall_seconds, headers or {})


class EventStream(Stream):
    """Sends what a generator yields; closes it at the end, or when the client has left.

    A client that takes nothing for `stall_seconds` is cut off: what it was sent last may be lost, and it
    resumes as after any lost connection. Until then it costs what the server's buffer holds and one piece.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        place: Place,
        stall_seconds: float,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(events, media_type="text/event-stream", headers=_HEADERS | dict(headers))
        self._events = events
        self._place = place
        self._stall_seconds = stall_seconds

    def to_asgi_response(self, *args: Any, **options: Any) -> ASGIResponse:
        """What Litestar calls: its own streaming response, within our limits."""
        streaming = super().to_asgi_response(*args, **options)

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await streaming(scope, receive, self._limited(scope, send))
            finally:
                self._place.give_back()
                await self._events.aclose()

        return cast("ASGIResponse", respond)

    def _limited(self, scope: Scope, send: Send) -> Send:
        async def limited(message: Message) -> None:
            try:
                async with asyncio.timeout(self._stall_seconds):
                    await send(message)
            except TimeoutError:
                _cut(scope, self._stall_seconds)

        return limited


def _cut(scope: Scope, stall_seconds: float) -> None:
    """Close a connection whose buffer does not empty: an orderly close would wait for that."""
    client = scope["client"]
    who = f"{client[0]}:{client[1]}" if client else "its reader"
    path, why = scope["path"], f"took nothing for {stall_seconds:g} s"
    log.warning("the stream %s was cut: %s %s", path, who, why)
    extensions = cast("dict[str, Any]", scope.get("extensions") or {})
    if ABORT not in extensions:
        raise ConnectionAbortedError(f"{who} {why}")  # The server closes it in its own way.
    extensions[ABORT]["call"]()


def _refusal(code: str, message: str) -> ApiError:
    return ApiError(429, code, message, retry_after_seconds=_RETRY_SECONDS)
