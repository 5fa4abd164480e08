"""What a client may do to a connection: uvicorn's HTTP protocol, with limits that it has not.

uvicorn waits for ever for the rest of a head or a body, and keeps a head of any length. Here both have a
time, and a head a size. What goes over is answered with the API's error object as far as a client can
still be told, and the connection ends.
"""

import asyncio
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import ClassVar, cast

import msgspec
from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.errors import ApiError, error_view
from api.sse import ABORT


class WireLimits(Struct, frozen=True, kw_only=True):
    """How long and how large parts of a request may be."""

    head_bytes_max: int = 32 * 1024  # The request line and all headers.
    url_bytes_max: int = 8 * 1024
    head_seconds: float = 10.0  # From the connection, or the first byte of the next request.
    body_seconds: float = 60.0  # From the head's end to the body's.
    linger_seconds: float = 5.0  # For the client to read an answer that came before its body's end.
    unread_seconds: float = 60.0  # How long a client may read nothing of what is written.


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    limits: ClassVar = WireLimits()

    _in_head = True  # No whole head has come since the last body's end, or ever.
    _has_begun = False  # Some of a request has come, and not yet all of it.
    # That came, ended no head and brought no body; so a body's trailers count too.
    _head_bytes = 0
    _is_deaf = False  # What still comes is thrown away.
    _unread_bytes = 0  # When we last looked.
    _wrong: ApiError | None = None  # What the parser was stopped for.
    _timer: asyncio.TimerHandle | None = None
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come; it has some seconds to say what it wants."""
        super().connection_made(cast("asyncio.Transport", transport))
        self._after(self.limits.head_seconds, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over, whoever ended it."""
        self._stop_timer()
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, no more of it at once than a head may still have."""
        while data and not self._is_deaf:
            room = self.limits.head_bytes_max - self._head_bytes
            if room == 0:
                limit = self.limits.head_bytes_max
                message = f"the headers are larger than {limit} bytes"
                self._refuse(ApiError(431, "headers_too_large", message))
            else:
                self._feed(data[:room])
                data = data[room:]

    def _feed(self, data: bytes) -> None:
        self._has_begun = True
        self._head_bytes += len(data)
        super().data_received(data)
        # A clock runs while the rest of a head or a body is awaited; a whole request needs none.
        if self._has_begun and not self._is_deaf and self._timer is None:
            limits = self.limits
            seconds = limits.head_seconds if self._in_head else limits.body_seconds
            self._after(seconds, self._too_slow)

    def on_message_begin(self) -> None:
        """A request's first byte. The request may end its connection at once, with all that is unsent."""
        self._has_begun = True
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"call": self.transport.abort}}

    def on_url(self, url: bytes) -> None:
        """Part of the request's target."""
        super().on_url(url)
        limit = self.limits.url_bytes_max
        if len(self.url) > limit:
            message = f"the URL is longer than {limit} bytes"
            self._wrong = ApiError(414, "url_too_long", message)
            raise self._wrong  # To stop the parser, which ends in `send_400_response`.

    def on_headers_complete(self) -> None:
        """The whole head is there, and the request begins to be served."""
        self._in_head, self._head_bytes = False, 0
        self._stop_timer()
        super().on_headers_complete()
        self.headers = []  # For trailers: they are none of the request's headers.

    def on_body(self, body: bytes) -> None:
        """Part of the request's body."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request is there."""
        self._in_head, self._has_begun, self._head_bytes = True, False, 0
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is out. One that came before the body's end is the last of its connection."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._stop_timer()
            self._watch_reader()
        elif not self._in_head and self._answering() is None:
            self._linger()

    def timeout_keep_alive_handler(self) -> None:
        """No new request has come for a while; uvicorn calls it."""
        super().timeout_keep_alive_handler()
        self._watch_reader()

    def pause_writing(self) -> None:
        """The client has to read before more is written."""
        super().pause_writing()
        self._watch_reader()

    def _watch_reader(self) -> None:
        """Abort the connection if the client reads nothing of what it is to read first."""
        if self._watch is None:
            self._unread_bytes = self.transport.get_write_buffer_size()
            self._watch = self.loop.call_later(self.limits.unread_seconds, self._look_at_reader)

    def _look_at_reader(self) -> None:
        self._watch = None
        if not (self.flow.write_paused or self.transport.is_closing()):
            return
        if self.transport.get_write_buffer_size() == self._unread_bytes:
            self.transport.abort()
        else:
            self._watch_reader()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Answer what the parser refused; uvicorn calls it, with nothing to tell what was wrong."""
        garbage = ApiError(
            400, "invalid_http", "this is no HTTP/1.1 request that can be understood"
        )
        self._refuse(self._wrong or garbage)

    def _too_slow(self) -> None:
        if not self._has_begun:
            self.transport.close()  # It has asked nothing.
        elif self._in_head:
            message = f"the headers did not come within {self.limits.head_seconds:g} s"
            self._refuse(ApiError(408, "headers_too_slow", message))
        else:
            seconds = self.limits.body_seconds
            message = f"the body did not come within the {seconds:g} s of BODY_TIMEOUT_SECONDS"
            self._refuse(ApiError(408, "body_too_slow", message))

    def _refuse(self, error: ApiError) -> None:
        """Answer with an error if nothing else is on its way to the client, and end the connection."""
        answering = self._answering()
        if answering is not None:
            if self._in_head or answering.response_started or self.pipeline:
                self._is_deaf = True
                self._stop_timer()
                self.shutdown()  # After the answer that has begun, or that an earlier request gets.
                return
            # Whoever reads the body is told that no more of it comes.
            answering.disconnected = True
            answering.message_event.set()
        self.transport.write(_raw(error))
        self._linger()

    def _answering(self) -> RequestResponseCycle | None:
        """The last request whose head has come, unless its answer is out."""
        cycle: RequestResponseCycle | None = self.cycle
        return None if cycle is None or cycle.response_complete else cycle

    def _linger(self) -> None:
        """End our side alone, for a while: to close on unread bytes would reset the connection.

        A client that is still writing then loses the answer, which it has not read.
        """
        self._is_deaf = True
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self.transport.write_eof()
        self._after(self.limits.linger_seconds, self.transport.abort)

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, act)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def bounded(limits: WireLimits) -> type[BoundedProtocol]:
    """The protocol for `uvicorn.Config(http=...)`, with these limits."""
    return type("Bounded", (BoundedProtocol,), {"limits": limits})


def _raw(error: ApiError) -> bytes:
    body = msgspec.json.encode(error_view(error))
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {secrets.token_hex(16)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
