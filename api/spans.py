"""A span for each request, as OpenTelemetry's conventions for HTTP servers have it.

It stands around the whole application, so that it sees what a guard refuses and what no route takes, and
a stream to its end. Nothing is recorded of a request but its method, its path, where it came from and
what became of it: no query, no header but the user agent, no body.
"""

from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from opentelemetry.semconv.attributes.client_attributes import CLIENT_ADDRESS
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_HEADER_TEMPLATE,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.network_attributes import NETWORK_PROTOCOL_VERSION
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.attributes.url_attributes import URL_PATH, URL_SCHEME
from opentelemetry.semconv.attributes.user_agent_attributes import USER_AGENT_ORIGINAL
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, use_span
from opentelemetry.util.types import AttributeValue

from api.routes import METHODS, method_of, route_of
from api.tracing import TRACEPARENT, header_of
from core.tracing import JOB_ID, context_of, traceparent_of

_PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})  # They would be most of all spans.
_JOBS: Final = "/v1/jobs/"
_REQUEST_ID: Final = f"{HTTP_RESPONSE_HEADER_TEMPLATE}.x-request-id"


class RequestSpans:
    """An application whose requests are recorded."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        span = self._start(scope)
        scope.setdefault("state", {})[TRACEPARENT] = traceparent_of(span.get_span_context())
        if not span.is_recording():
            await self._app(scope, receive, send)
            return

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                _note_answer(span, message["status"], list(message["headers"]))
            await send(message)

        try:
            with use_span(span, record_exception=False, set_status_on_exception=False):
                await self._app(scope, receive, noting)
        except BaseException as error:
            _fail(span, type(error).__name__)
            raise
        finally:
            _note_route(span, scope)
            span.end()

    def _start(self, scope: HTTPScope) -> Span:
        context = context_of(header_of(scope, b"traceparent"), header_of(scope, b"tracestate"))
        method = method_of(scope)
        attributes: dict[str, AttributeValue] = {
            HTTP_REQUEST_METHOD: method,
            URL_PATH: scope["path"],
            URL_SCHEME: scope["scheme"],
            NETWORK_PROTOCOL_VERSION: scope["http_version"],
        }
        if server := scope["server"]:
            attributes[SERVER_ADDRESS] = server[0]
            attributes[SERVER_PORT] = server[1] or 0
        if client := scope["client"]:
            attributes[CLIENT_ADDRESS] = client[0]
        if agent := header_of(scope, b"user-agent"):
            attributes[USER_AGENT_ORIGINAL] = agent
        return self._tracer.start_span(_method_name(method), context, SpanKind.SERVER, attributes)


def _note_answer(span: Span, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    span.set_attribute(HTTP_RESPONSE_STATUS_CODE, status)
    if status >= 500:
        _fail(span, str(status))
    for name, value in headers:
        if name == b"x-request-id":
            span.set_attribute(_REQUEST_ID, [value.decode("latin-1")])
        elif name == b"x-job-id":
            span.set_attribute(JOB_ID, value.decode("latin-1"))
        elif name == b"location" and value.startswith(_JOBS.encode()):
            span.set_attribute(JOB_ID, value.decode("latin-1").removeprefix(_JOBS))


def _note_route(span: Span, scope: HTTPScope) -> None:
    """Name the span by its route, which is known once the application has found it."""
    route = route_of(scope)
    if route is None:
        return
    span.update_name(f"{_method_name(scope['method'])} {route}")
    span.set_attribute(HTTP_ROUTE, route)
    job_id = scope.get("path_params", {}).get("job_id")
    if job_id is not None:
        span.set_attribute(JOB_ID, str(job_id))


def _method_name(method: str) -> str:
    return method if method in METHODS else "HTTP"


def _fail(span: Span, kind: str) -> None:
    span.set_attribute(ERROR_TYPE, kind)
    span.set_status(Status(StatusCode.ERROR))
