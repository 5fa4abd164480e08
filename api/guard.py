"""In front of everything: whose key a request has. What it may do with it, the route says (`api.access`)."""

from base64 import b64decode
from collections.abc import Mapping
from typing import Final

import msgspec
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ApiError, error_view, store_failure
from api.keyring import Keyring
from core.access import ANYBODY, DEFAULT_TENANT, Caller
from core.errors import StoreError

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_NOBODY: Final = Caller(
    tenant=DEFAULT_TENANT, sees=DEFAULT_TENANT, scopes=frozenset(), name="nobody"
)


class Guard:
    """An ASGI application around another one, which it tells who the caller is: `state["caller"]`.

    With keys required nothing but OPEN_PATHS goes through without one. Otherwise whoever has none, or
    one that nobody knows (OpenAI's clients send something), is anybody; a key that is known counts.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, *, required: bool) -> None:
        self._app = app
        self._keyring = keyring
        self._required = required

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 for a key that is missing or unknown, 503 if that cannot be said."""
        try:
            caller = self._caller(scope)
        except ApiError as error:
            await _answer(send, error)
            return
        except StoreError as error:
            await _answer(send, store_failure(error))
            return
        scope["state"]["caller"] = caller
        if caller.key is not None:
            send = _While(self._keyring, caller, scope, send)
        await self._app(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller:
        if scope["path"] in OPEN_PATHS:
            return _NOBODY
        secret = _secret(scope)
        if secret is None:
            if self._required:
                raise _unauthorized(scope, "missing_api_key", "an API key is needed")
            return ANYBODY
        caller = self._keyring.caller(secret)
        if caller is not None:
            return caller
        if self._required:
            raise _unauthorized(scope, "invalid_api_key", "there is no such API key, or it is over")
        return ANYBODY


class _While:
    """An answer that comes only while its caller's key is good: a stream ends with its key."""

    def __init__(self, keyring: Keyring, caller: Caller, scope: Scope, send: Send) -> None:
        self._keyring = keyring
        self._caller = caller
        self._scope = scope
        self._send = send
        self._has_begun = self._is_over = False

    async def __call__(self, message: Message) -> None:
        """Pass a message on, or end the answer; the server then tells the application to stop."""
        if self._is_over:
            return
        is_last = message["type"] == "http.response.body" and not message.get("more_body")
        if is_last or self._keyring.is_live(self._caller):
            self._has_begun = True
            await self._send(message)
            return
        self._is_over = True
        if self._has_begun:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            why = "the API key was revoked, or has expired, since the request began"
            await _answer(self._send, _unauthorized(self._scope, "invalid_api_key", why))


def _secret(scope: Scope) -> bytes | None:
    """What follows `Authorization: Bearer`; for a page also a password, as a browser asks for it."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, secret = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return secret.strip() or None
            return _password(secret) if scheme.lower() == b"basic" and _is_a_page(scope) else None
    return None


def _is_a_page(scope: Scope) -> bool:
    """Say whether people look at a path. Nowhere else is a password taken.

    Browsers send it along with whatever another site has them ask for.
    """
    return scope["path"].startswith("/docs") or scope["path"] == "/openapi.json"


def _password(credentials: bytes) -> bytes | None:
    """The password of RFC 7617's basic credentials, whatever the user's name."""
    try:
        return b64decode(credentials, validate=True).partition(b":")[2] or None
    except ValueError:
        return None


def _unauthorized(scope: Scope, code: str, why: str) -> ApiError:
    challenge = 'Bearer realm="respool"'
    if code == "invalid_api_key":
        challenge += ', error="invalid_token"'
    if _is_a_page(scope):
        challenge += ', Basic realm="respool: a key as the password", charset="UTF-8"'
    message = f"{why}; send it as `Authorization: Bearer KEY`, and `respool keys make` makes one"
    return ApiError(401, code, message, headers={"WWW-Authenticate": challenge})


async def _answer(send: Send, error: ApiError) -> None:
    body = msgspec.json.encode(error_view(error))
    headers: Mapping[str, str] = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **error.headers,
    }
    if error.retry_after_seconds is not None:
        headers = {**headers, "retry-after": str(error.retry_after_seconds)}
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body, "more_body": False})
