"""How a job that did not complete is told to a caller who waits for it: as an HTTP error, by its kind."""

from typing import Final

from api.errors import ApiError
from core.errors import FromTheFuture
from core.events import AnyEvent, ErrorKind, Failed
from core.states import status_of
from core.store import View

# The attempts are spent: a client that asked again would only begin them anew.
_FINAL: Final = {"x-should-retry": "false"}

_STATUSES: Final = {
    ErrorKind.BAD_REQUEST: 400,
    ErrorKind.UNKNOWN_MODEL: 404,
    ErrorKind.OVERLOAD: 503,
    ErrorKind.TIMEOUT: 504,
    ErrorKind.OUT_OF_MEMORY: 503,
}
_BAD_GATEWAY: Final = 502


def failure(job_id: str, view: View) -> ApiError:
    """The error for a job that ended without a result."""
    last: AnyEvent | None = view.last
    if isinstance(last, Failed):
        status = _STATUSES.get(last.error.kind, _BAD_GATEWAY)
        code, message = last.error.kind.value, last.error.message
    else:
        state = status_of(view.head.job)
        status, code, message = 409, f"job_{state}", f"the job is {state}"
    return ApiError(status, code, message, job_id=job_id, headers=_FINAL | job_header(job_id))


def not_in_time(job_id: str, seconds: float) -> ApiError:
    """The error for a job that goes on when its caller's time is over."""
    message = f"not finished within {seconds:g} s; the job goes on: GET /v1/jobs/{job_id}?wait=60"
    headers = _FINAL | job_header(job_id)
    return ApiError(504, "not_finished_in_time", message, job_id=job_id, headers=headers)


def stopping(job_id: str) -> ApiError:
    """The error for a job whose caller was waiting at an API that is told to stop."""
    message = f"the API stops; the job goes on: GET /v1/jobs/{job_id}?wait=60"
    return ApiError(503, "stopping", message, job_id=job_id, headers=_FINAL | job_header(job_id))


def newer(job_id: str, error: FromTheFuture) -> ApiError:
    """The error for a job that a newer release has gone on with, in a way that this one cannot read."""
    message = f"{error}; the job goes on: GET /v1/jobs/{job_id}?wait=60"
    return ApiError(503, "store_newer", message, job_id=job_id, headers=_FINAL | job_header(job_id))


def job_header(job_id: str) -> dict[str, str]:
    """Every answer names its job."""
    return {"x-job-id": job_id}
