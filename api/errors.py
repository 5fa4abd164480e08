"""Every error that a client can see, as OpenAI's object: {"error": {message, type, param, code}}."""

import logging
from collections.abc import Mapping
from typing import Any

from litestar import MediaType, Request, Response
from litestar.exceptions import (
    HTTPException,
    InternalServerException,
    SerializationException,
    ValidationException,
)
from litestar.types import ExceptionHandlersMap
from msgspec import Struct

from api.callers import CallerLeft
from core.errors import (
    FromTheFuture,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreNotReady,
    StoreUnavailable,
    UnknownJob,
)
from core.ids import is_job_id
from core.job import CommandRefused
from projections.reading.position import ViewsBehind

log = logging.getLogger(__name__)

STORE_RETRY_SECONDS = 1
# What a wait or a stream that has begun outlasts, and how long it waits before it asks again.
STORE_AWAY = (StoreUnavailable, StoreNotReady, StoreDenied)
STORE_AWAY_SECONDS = 1.0
JOB_HEADER = "x-job-id"


class ErrorBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    message: str
    type: str
    param: str | None
    code: str
    job_id: str | None = None


class ErrorView(Struct, frozen=True):
    """What a client gets instead of an answer."""

    error: ErrorBody


class ApiError(Exception):
    """An answer that is an error. Handlers raise it where the cause has no exception of its own."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        job_id: str | None = None,
        retry_after_seconds: int | None = None,
        headers: Mapping[str, str] | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.job_id = job_id
        self.retry_after_seconds = retry_after_seconds
        self.headers = headers or {}
        self.kind = kind or _kind_of(status)  # What OpenAI's object calls its type.


def forgotten(job_id: str) -> ApiError:
    """The error for what was taken out of a job."""
    message = "the job's request and result were forgotten, as somebody asked for that"
    return ApiError(410, "job_forgotten", message, job_id=job_id)


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
_STORE_CODES = (
    (StoreFull, "store_full"),
    (StoreNotReady, "store_not_ready"),
    (StoreDenied, "store_denied"),
    (StoreUnavailable, "store_unavailable"),
    (FromTheFuture, "store_newer"),  # Another API, of that release, can answer.
)
_HEADERS = {"idempotency_key": "Idempotency-Key", "last_event_id": "Last-Event-ID"}


def _kind_of(status: int) -> str:
    return _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


def respond(error: ApiError, headers: Mapping[str, str] | None = None) -> Response[ErrorView]:
    """An error as a response, which names its job."""
    headers = {**error.headers, **(headers or {})}
    if error.job_id is not None and is_job_id(error.job_id):  # It may be what a client made up.
        headers[JOB_HEADER] = error.job_id
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    return Response(
        error_view(error), status_code=error.status, headers=headers, media_type=MediaType.JSON
    )


def error_view(error: ApiError) -> ErrorView:
    """An error as OpenAI's object."""
    body = ErrorBody(
        message=error.message,
        type=error.kind,
        param=error.param,
        code=error.code,
        job_id=error.job_id,
    )
    return ErrorView(body)


def _api_error(_: Request[Any, Any, Any], error: ApiError) -> Response[ErrorView]:
    return respond(error)


def _invalid(_: Request[Any, Any, Any], error: ValidationException) -> Response[ErrorView]:
    details = error.extra if isinstance(error.extra, list) else []
    if not details:
        return respond(ApiError(422, "invalid_value", error.detail))
    first = details[0]
    message, key = first.get("message", error.detail), first.get("key")
    if first.get("source") == "header":
        key = _HEADERS.get(key, key)
    named = f"{key}: {message}" if key else message
    return respond(ApiError(422, "invalid_value", named, param=key))


def _http(request: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorView]:
    if isinstance(error.__cause__, SerializationException):
        message = f"the body is not valid JSON: {error.__cause__.__cause__ or error.detail}"
        return respond(ApiError(400, "invalid_json", message))
    status = error.status_code
    message = error.detail
    headers = dict(error.headers or {})
    if status == 404:
        message = f"there is no {request.method} {request.url.path}; /docs lists what there is"
    elif status == 405:
        headers["allow"] = _with_head(headers["allow"])
        message = f"{request.url.path} takes {headers['allow']}, not {request.method}"
    elif status == 413:
        limit = request.app.request_max_body_size
        message = f"the body is larger than the {limit} bytes that MAX_BODY_BYTES allows"
    return respond(ApiError(status, _CODES.get(status, "invalid_request"), message), headers)


def _with_head(allowed: str) -> str:
    methods = set(allowed.split(", "))
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))  # `api.front`


def _unknown_job(_: Request[Any, Any, Any], error: UnknownJob) -> Response[ErrorView]:
    return respond(ApiError(404, "job_not_found", str(error), job_id=error.job_id))


def _refused(request: Request[Any, Any, Any], error: CommandRefused) -> Response[ErrorView]:
    job_id = request.path_params.get("job_id")
    return respond(ApiError(409, "job_state", str(error), job_id=job_id))


def store_failure(error: StoreError, job_id: str | None = None) -> ApiError:
    """What a client is told when the store cannot do it."""
    code = next((code for kind, code in _STORE_CODES if isinstance(error, kind)), "store_error")
    if code == "store_error":
        log.error("the store failed: %s", error)
    return ApiError(503, code, str(error), job_id=job_id, retry_after_seconds=STORE_RETRY_SECONDS)


def _store(request: Request[Any, Any, Any], error: StoreError) -> Response[ErrorView]:
    return respond(store_failure(error, request.path_params.get("job_id")))


def _behind(_: Request[Any, Any, Any], error: ViewsBehind) -> Response[ErrorView]:
    retry = STORE_RETRY_SECONDS
    return respond(ApiError(503, "views_behind", str(error), retry_after_seconds=retry))


def _caller_left(_: Request[Any, Any, Any], __: CallerLeft) -> Response[ErrorView]:
    # Nobody reads it; 499 is nginx's name for this in logs and metrics.
    return respond(ApiError(499, "caller_left", "the caller closed the connection"))


def _internal(
    request: Request[Any, Any, Any], error: InternalServerException
) -> Response[ErrorView]:
    # Litestar has no exception of its own for a client that leaves before its body's end.
    if error.detail == "client disconnected prematurely":
        return _caller_left(request, CallerLeft())
    return _unexpected(request, error)


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorView]:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return respond(
        ApiError(500, "internal_error", "this should not have happened; the log says more")
    )


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    ApiError: _api_error,
    ValidationException: _invalid,
    InternalServerException: _internal,
    HTTPException: _http,
    UnknownJob: _unknown_job,
    CommandRefused: _refused,
    StoreError: _store,
    ViewsBehind: _behind,
    CallerLeft: _caller_left,
    Exception: _unexpected,
}
