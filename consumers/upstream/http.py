"""What every inference server that is reached over HTTP has in common: limits, and errors by kind."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import msgspec
from yarl import URL

from consumers.upstream.base import Limits, UpstreamError
from core.events import ErrorKind

LINE_BYTES_MAX: Final = 16 * 1024 * 1024
ERROR_BYTES_MAX: Final = 64 * 1024
_EXPLANATION_CHARS_MAX: Final = 500
# Less than the 5 s after which many servers close an idle connection: a request that is sent at that
# moment is lost.
_KEPT_ALIVE_SECONDS: Final = 4.0
_ASK_SECONDS: Final = 5.0
_RETRY_AFTER_MS_MAX: Final = 24 * 60 * 60 * 1_000

# How servers say that the GPU is full: CUDA's and ROCm's own words, and llama.cpp's.
_OUT_OF_MEMORY: Final = ("out of memory", "outofmemory", "failed to allocate", "unable to allocate")

_NO_CONNECTION: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)


_CLOSED: Final = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


class _Request:
    """What one request of ours learns on its way."""

    def __init__(self) -> None:
        self.is_on_kept_connection = False


class HttpServer:
    """An inference server at a URL. Made, used and closed in one event loop."""

    def __init__(self, url: str, api_key: str | None, limits: Limits) -> None:
        self.address = url
        self.limits = limits
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session = aiohttp.ClientSession(
            # The worker's slots bound the connections.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_ALIVE_SECONDS),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=limits.connect_seconds),
            trust_env=False,  # A proxy of the host must not see prompts.
            trace_configs=[_told_of_kept_connections()],
        )

    async def aclose(self) -> None:
        await self._session.close()

    async def get(self, path: str) -> Any:
        """A small JSON answer. Raises UpstreamError."""
        async with self._errors(), self._within(_ASK_SECONDS, "an answer"):
            return _decoded(await _good(await self._send("GET", path)))

    async def post(self, path: str, body: bytes, traceparent: str | None) -> bytes:
        """An answer in one piece, within the limit for a first token. Raises UpstreamError."""
        async with self._errors(), self._within(self.limits.first_token_seconds, "an answer"):
            return await _good(await self._send("POST", path, body, traceparent))

    async def lines(
        self, path: str, body: bytes, traceparent: str | None
    ) -> AsyncGenerator[bytes, None]:
        """The answer's lines as they come, but for empty ones. Raises UpstreamError.

        The first line has its own limit, counted from the request, and so has the silence between
        two; a comment of a server-sent event stream (`: …`) is silence.
        """
        asked_at = asyncio.get_running_loop().time()
        first_seconds = self.limits.first_token_seconds
        async with self._errors():
            async with self._within(first_seconds, "an answer", asked_at):
                response = await self._send("POST", path, body, traceparent)
            try:
                if response.status != HTTPStatus.OK:
                    async with self._within(_ASK_SECONDS, "the rest of an error"):
                        raise _status_error(response, await _some_of(response))
                async with aclosing(_lines(response)) as lines:
                    async with self._within(first_seconds, "a first token", asked_at):
                        line = await _next_line(lines)
                    while line is not None:
                        yield line
                        async with self._within(self.limits.silence_seconds, "another token"):
                            line = await _next_line(lines)
            finally:
                response.close()  # The connection too, unless the answer has come to its end.

    async def _send(
        self, method: str, path: str, body: bytes | None = None, traceparent: str | None = None
    ) -> aiohttp.ClientResponse:
        """The head of an answer.

        A server may close a kept connection just as it is used again (llama.cpp's closes each after a
        stream), and then has not seen the request: it is sent again, in the end on a new connection
        (RFC 9112, section 9.3.1). No connection to be had then is what became of the first.
        """
        closed: aiohttp.ClientError | None = None
        while True:
            request = _Request()
            try:
                return await self._session.request(
                    method,
                    URL(f"{self.address}/{path}", encoded=True),
                    data=body,
                    headers=_headers(traceparent),
                    allow_redirects=False,
                    trace_request_ctx=request,
                )
            except _NO_CONNECTION as error:
                raise closed or error from None
            except _CLOSED as error:
                if not request.is_on_kept_connection:
                    raise
                closed = error

    @asynccontextmanager
    async def _within(
        self, seconds: float, what: str, since: float | None = None
    ) -> AsyncIterator[None]:
        start = asyncio.get_running_loop().time() if since is None else since
        try:
            async with asyncio.timeout_at(start + seconds):
                yield
        except (
            aiohttp.ServerTimeoutError
        ):  # A TimeoutError too: of connecting, which `_errors` tells.
            raise
        except TimeoutError as error:
            message = f"{self.address} did not send {what} within {seconds:g} s"
            raise UpstreamError(ErrorKind.TIMEOUT, message) from error

    @asynccontextmanager
    async def _errors(self) -> AsyncIterator[None]:
        """Turn what can go wrong on the way into an UpstreamError that says where."""
        try:
            yield
        except _NO_CONNECTION as error:
            message = f"{self.address} cannot be reached: {str(error) or type(error).__name__}"
            raise UpstreamError(ErrorKind.CONNECT, message) from error
        except (aiohttp.ClientError, OSError) as error:
            message = f"{self.address} broke off: {str(error) or type(error).__name__}"
            raise UpstreamError(ErrorKind.LOST_STREAM, message) from error


def _told_of_kept_connections() -> aiohttp.TraceConfig:
    async def note(_session: aiohttp.ClientSession, context: Any, _params: Any) -> None:
        context.trace_request_ctx.is_on_kept_connection = True

    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(note)
    return config


def _headers(traceparent: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if traceparent is not None:
        headers["traceparent"] = traceparent
    return headers


async def _next_line(lines: AsyncGenerator[bytes, None]) -> bytes | None:
    """The next line that says something; None at the end."""
    async for line in lines:
        if line and not line.startswith(b":"):
            return line
    return None


async def _lines(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    rest = b""
    async for piece in response.content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r")
        if len(rest) > LINE_BYTES_MAX:
            message = f"a line of the stream is longer than {LINE_BYTES_MAX} bytes"
            raise UpstreamError(ErrorKind.SERVER_ERROR, message)
    if rest:
        yield rest


async def _good(response: aiohttp.ClientResponse) -> bytes:
    """The body of an answer. Raises UpstreamError if it is an error."""
    async with response:
        body = await response.read()
    if response.status != HTTPStatus.OK:
        raise _status_error(response, body)
    return body


async def _some_of(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > ERROR_BYTES_MAX:
            break
    return body


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"the inference server answered what is not JSON: {error}"
        raise UpstreamError(ErrorKind.SERVER_ERROR, message) from error


def _status_error(response: aiohttp.ClientResponse, body: bytes) -> UpstreamError:
    status, said = response.status, explanation(body)
    message = f"the inference server answered {status}: {said}"
    retry_after_ms = _retry_after_ms(response.headers.get("Retry-After"), response.headers)
    return UpstreamError(_kind_of(status, said), message, retry_after_ms)


def _kind_of(status: int, said: str) -> ErrorKind:
    match status:
        case 401 | 403:
            return ErrorKind.REJECTED
        case 404 if "model" in said.lower():
            return ErrorKind.UNKNOWN_MODEL
        case 408 | 504:
            return ErrorKind.TIMEOUT
        case 429 | 503:
            return ErrorKind.OVERLOAD
        case _ if status < 500 or status == 501:  # llama.cpp: embeddings of a model without any.
            return ErrorKind.BAD_REQUEST
        case _:
            return kind_of_failure(said)


def kind_of_failure(said: str) -> ErrorKind:
    """What a server that failed at a request complains about."""
    is_full = any(words in said.lower() for words in _OUT_OF_MEMORY)
    return ErrorKind.OUT_OF_MEMORY if is_full else ErrorKind.SERVER_ERROR


def explanation(body: bytes) -> str:
    """What an error body says: OpenAI's `error.message`, Ollama's `error`, FastAPI's `detail`, or all."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fields = None
    said: Any = fields
    if isinstance(said, dict):
        said = said.get("error", said.get("detail", said.get("message")))
    if isinstance(said, dict):
        said = said.get("message")
    text = said if isinstance(said, str) else body.decode("utf-8", "replace")
    return " ".join(text.split())[:_EXPLANATION_CHARS_MAX] or "nothing"  # One line, for logs.


def _retry_after_ms(value: str | None, headers: Mapping[str, str]) -> int | None:
    """Retry-After in milliseconds: seconds, or a date, which counts from the server's own Date."""
    if value is None:
        return None
    try:
        if value.isascii() and value.isdigit():
            wait_ms = int(value) * 1_000
        else:
            wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("Date", ""))
            wait_ms = round(wait.total_seconds() * 1_000)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0, min(wait_ms, _RETRY_AFTER_MS_MAX))
