"""What all requests have in common: an id in `x-request-id`, HEAD wherever GET goes, and OPTIONS."""

import re
import secrets
from collections.abc import Iterable
from typing import Any, Final, cast

from litestar.enums import ScopeType
from litestar.status_codes import HTTP_204_NO_CONTENT, HTTP_405_METHOD_NOT_ALLOWED
from litestar.types import ASGIApp, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

REQUEST_ID: Final = "request_id"  # What it is called in the log.
_REQUEST_ID: Final = b"x-request-id"
_SANE: Final = re.compile(rb"[!-~]{1,128}")  # It goes into logs, and back into a header.
# Litestar's own answer to OPTIONS knows the first handler of a path alone.
_NONE: Final = "NONE"


class Front:
    """An ASGI application around another one, its router included: a 404 has an id too.

    The id is the client's own if it sent a sane one, and is in every record that the request logs.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request_id = _sent_id(scope["headers"]) or secrets.token_hex(16).encode("ascii")
        # Each request is a task of its own, and so has a context of its own.
        bind_contextvars(**{REQUEST_ID: request_id.decode("ascii")})

        async def send_on(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (_REQUEST_ID, request_id)]
            await send(message)

        method = scope["method"] if scope["type"] == ScopeType.HTTP else None
        if method == "HEAD":
            as_get = _with_method(scope, "GET")
            await self._app(as_get, receive, _head_of(send_on))
            if "path_template" in as_get:  # The router's word, for whoever stands around us.
                scope["path_template"] = as_get["path_template"]
        elif method == "OPTIONS":
            await self._app(_with_method(scope, _NONE), receive, _allowed_by(send_on))
        else:
            await self._app(scope, receive, send_on)


def _with_method(scope: Scope, method: str) -> Scope:
    # A copy, as the server still has to know what it was asked.
    return cast("Scope", {**scope, "method": method})


def _sent_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    for name, value in headers:
        if name == _REQUEST_ID:
            return value if _SANE.fullmatch(value) else None
    return None


def _head_of(send: Send) -> Send:
    """Ends the answer after its headers, and what would go on sending, as a stream, with it."""

    async def send_head(message: Any) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_head


def _allowed_by(send: Send) -> Send:
    """Makes an answer of what the router says to a wrong method: which ones a path takes."""
    is_known = False

    async def send_allowed(message: Any) -> None:
        nonlocal is_known
        if message["type"] == "http.response.start":
            is_known = message["status"] == HTTP_405_METHOD_NOT_ALLOWED
            if is_known:
                kept = [header for header in message["headers"] if header[0] == b"allow"]
                message = {**message, "status": HTTP_204_NO_CONTENT, "headers": kept}
        elif is_known:
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await send(message)

    return send_allowed
