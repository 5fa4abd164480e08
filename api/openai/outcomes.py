"""How a job that did not complete is told to a caller who waits for it: as an HTTP error, by its kind."""

import re
from typing import Final

from api.errors import ApiError, store_failure
from api.headers import place_headers
from api.schemas import JobView
from core.errors import StoreError
from core.events import AnyEvent, ErrorKind, Failed, JobError
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
_GOES_ON: Final = "the job goes on: GET /v1/jobs/{}?wait=60"
# llama.cpp: available context size; vLLM: maximum context length, maximum model length.
_TOO_LONG: Final = re.compile(r"context (size|length|window)|maximum model length", re.IGNORECASE)


def failure(job_id: str, view: View) -> ApiError:
    """The error for a job that ended without a result."""
    last: AnyEvent | None = view.last
    if isinstance(last, Failed):
        status = _STATUSES.get(last.error.kind, _BAD_GATEWAY)
        code, message = _code_of(last.error), last.error.message
    else:
        state = status_of(view.head.job)
        status, code, message = 409, f"job_{state}", f"the job is {state}"
    return ApiError(status, code, message, job_id=job_id, headers=_FINAL)


def _code_of(error: JobError) -> str:
    """OpenAI's code for what its clients branch on, else the kind's own name."""
    match error.kind:
        case ErrorKind.UNKNOWN_MODEL:
            return "model_not_found"
        case ErrorKind.BAD_REQUEST if _TOO_LONG.search(error.message):
            return "context_length_exceeded"
        case kind:
            return kind.value


def not_in_time(job: JobView, seconds: float, *, is_cancelled: bool) -> ApiError:
    """The error for a job that has not ended when its caller's time is over."""
    goes_on = _GOES_ON.format(job.id)
    what = "the job is being cancelled, as x-respool-on-timeout asked" if is_cancelled else goes_on
    place = "" if job.position is None else f", but queued at position {job.position}"
    message = f"not finished within {seconds:g} s{place}; {what}"
    headers = _FINAL | place_headers(job)
    return ApiError(504, "not_finished_in_time", message, job_id=job.id, headers=headers)


def stopping(job_id: str) -> ApiError:
    """The error for a job whose caller was waiting at an API that is told to stop."""
    message = f"the API stops; {_GOES_ON.format(job_id)}"
    return ApiError(503, "stopping", message, job_id=job_id, headers=_FINAL)


def out_of_sight(job_id: str, error: StoreError) -> ApiError:
    """The error for a job that cannot be read any more: the store is away, or a newer release wrote it."""
    code = store_failure(error).code
    message = f"{error}; {_GOES_ON.format(job_id)}"
    return ApiError(503, code, message, job_id=job_id, headers=_FINAL)
