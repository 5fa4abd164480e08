"""A submission: what is asked for, checked, as the event that says so; and what can be wrong with it."""

import msgspec
from msgspec import Raw, Struct, structs

from api.bodies import NEEDS, TOO_DEEP, check_depth
from api.errors import STORE_RETRY_SECONDS, ApiError
from api.schemas import SubmitJob
from core.access import Caller
from core.errors import NotDurable
from core.events import Kind, Submitted
from core.head import Head
from core.states import Scheduled
from core.store import Recorded, View


class Defaults(Struct, frozen=True, kw_only=True):
    """What a job gets that does not say otherwise."""

    attempts_max: int
    timeout_ms: int
    wait_max_seconds: float
    streams_max: int  # Open at once, in this process.
    stall_seconds: float  # How long a stream's reader may take nothing.


def submitted_by(
    caller: Caller, asked: SubmitJob, defaults: Defaults, traceparent: str | None
) -> Submitted:
    """The event of what a caller asks for."""
    return Submitted(
        queue=asked.queue,
        model=asked.model,
        kind=asked.kind,
        priority=asked.priority,
        tenant=caller.tenant,
        key=caller.key,
        request=asked.request,
        delay_ms=round(asked.delay_seconds * 1_000),
        deadline_ms=_milliseconds(asked.deadline_seconds),
        timeout_ms=_milliseconds(asked.timeout_seconds) or defaults.timeout_ms,
        attempts_max=asked.max_attempts or defaults.attempts_max,
        metadata=asked.metadata,
        traceparent=traceparent,
    )


def check_request(kind: Kind, request: Raw) -> None:
    """Raises ApiError 422 unless the request is an object with what its kind needs.

    400 if it is no JSON: what is kept byte for byte was only skimmed until here.
    """
    try:
        fields = msgspec.json.decode(request)
    except msgspec.ValidationError as error:
        raise ApiError(422, "invalid_value", f"request: {error}", param="request") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"the body is not valid JSON: request: {error}"
        raise ApiError(400, "invalid_json", message, param="request") from error
    except RecursionError as error:
        raise ApiError(400, "invalid_json", TOO_DEEP) from error
    needed = NEEDS[kind]
    if not isinstance(fields, dict):
        message = f"request: takes the JSON object that the inference server gets for {kind}"
        raise ApiError(422, "invalid_value", message, param="request")
    check_depth(bytes(request))
    if not fields.get(needed):
        message = f"request: a {kind} request needs {needed!r}, and it must not be empty"
        raise ApiError(422, "invalid_value", message, param=f"request.{needed}")
    is_text = isinstance(fields[needed], str) and kind is not Kind.CHAT
    if not (is_text or isinstance(fields[needed], list)):
        takes = "a list" if kind is Kind.CHAT else "a text or a list"
        message = f"request: {needed!r} takes {takes}"
        raise ApiError(422, "invalid_value", message, param=f"request.{needed}")


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else max(1, round(seconds * 1_000))


def as_view(submitted: Submitted, recorded: Recorded) -> View:
    """A job that was just submitted."""
    head = Head(recorded.job, recorded.log_ids)
    if isinstance(recorded.job, Scheduled):
        head = structs.replace(head, due_at_ms=head.time_ms(1) + submitted.delay_ms)
    return View(head, submitted, submitted)


def not_durable(job_id: str, error: NotDurable) -> ApiError:
    """The error for a job that is there, but not as durable as it has to be."""
    return ApiError(
        503,
        "store_unavailable",
        str(error),
        job_id=job_id,
        retry_after_seconds=STORE_RETRY_SECONDS,
    )


def reused(job_id: str) -> ApiError:
    """The error for an Idempotency-Key that has another request's job."""
    message = "the Idempotency-Key was used for another request; use a new key for a new request"
    return ApiError(422, "idempotency_key_reused", message, param="Idempotency-Key", job_id=job_id)
