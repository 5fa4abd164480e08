"""`/v1/jobs`: submit, look, wait, watch, cancel, requeue."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Annotated, Any

from litestar import Controller, MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, HeaderParameter, QueryParameter, RawBody
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED

from api import streams
from api.access import allows, tenant_of
from api.bodies import SubmitOperation, decode_body
from api.callers import unless_left
from api.desk import Desk
from api.docs.document import also
from api.errors import ApiError, forgotten
from api.headers import place_headers
from api.lists import (
    FILTERS,
    Limit,
    MinPosition,
    QueueText,
    Statuses,
    Text,
    Time,
    filter_of,
    page_of_jobs,
    takes,
)
from api.schemas import EventList, JobList, JobView, SubmitJob, event_view
from core.access import Scope
from core.commands import Cancel, Requeue
from core.errors import StoreError
from core.events import Completed, Failed
from core.states import has_ended, status_of

WaitSeconds = Annotated[
    float, QueryParameter(ge=0, le=86_400, description="Wait for the job to end.")
]


def _last_event_id(pattern: str) -> Any:
    return HeaderParameter(
        name="Last-Event-ID",
        max_length=64,
        description="Of the last event that came: the stream goes on after it.",
        schema_extra={"pattern": pattern},
    )


LastVersion = Annotated[str | None, _last_event_id("^[0-9]{0,9}$")]
LastChunk = Annotated[str | None, _last_event_id("^([0-9]{1,9}-[0-9]{1,12})?$")]
IdempotencyHeader = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="The same request again under the same key gives the same job.",
    ),
]
Prefer = Annotated[
    str | None,
    HeaderParameter(
        name="Prefer",
        max_length=255,
        description="`wait=N`: answer once the job has ended, or after N seconds.",
    ),
]
_CHANGES = allows(Scope.SUBMIT, Scope.OPERATE)  # Of one job.
_ENDED = ResponseSpec(
    JobView,
    description="It ended within `Prefer: wait=N`, or the Idempotency-Key has it already.",
    generate_examples=False,
)


class JobsController(Controller):
    path = "/v1/jobs"
    tags = ("jobs",)
    opt = allows(Scope.READ)

    @post(
        status_code=HTTP_202_ACCEPTED,
        operation_class=SubmitOperation,
        opt=allows(Scope.SUBMIT),
        responses=also(404) | {HTTP_200_OK: _ENDED},
    )
    async def submit(
        self,
        body: RawBody,
        request: Request[Any, Any, Any],
        desk: NamedDependency[Desk],
        idempotency_key: IdempotencyHeader = None,
        prefer: Prefer = None,
    ) -> Response[JobView]:
        """Accept a job. It is in the log when this answers 202, as durable as DURABILITY says.

        200 if the Idempotency-Key has the job already, or if it ended within `Prefer: wait=N` seconds.
        404 for a model that nobody serves, 422 for a wrong request, 429 if the queue is full.
        """
        wait_seconds = _preferred_wait(prefer)
        job, is_new = await desk.submit(decode_body(body, SubmitJob), idempotency_key)
        if wait_seconds:
            with suppress(StoreError):  # It is accepted all the same.
                job = await unless_left(request, desk.wait(job.id, wait_seconds))
                job = await desk.placed(job)
        is_over = not is_new or job.finished_at is not None
        return Response(
            job,
            status_code=HTTP_200_OK if is_over else HTTP_202_ACCEPTED,
            headers={"Location": f"/v1/jobs/{job.id}", **place_headers(job)},
        )

    @get(before_request=takes(*FILTERS, "cursor", "limit", "min_position"))
    async def list_(
        self,
        desk: NamedDependency[Desk],
        status: Statuses = None,
        queue: QueueText = None,
        model: Text = None,
        tenant: Text = None,
        created_after: Time = None,
        created_before: Time = None,
        cursor: Text = None,
        limit: Limit = 50,
        min_position: MinPosition = None,
    ) -> JobList:
        """Jobs, newest first, by any combination of marks; several statuses with commas between them."""
        tenant = tenant_of(desk.caller, tenant)
        which = filter_of(status, queue, model, tenant, created_after, created_before)
        return await page_of_jobs(desk, which, cursor, limit, min_position)

    @get("/{job_id:str}")
    async def show(
        self,
        job_id: FromPath[str],
        request: Request[Any, Any, Any],
        desk: NamedDependency[Desk],
        wait: WaitSeconds = 0.0,
    ) -> Response[JobView]:
        """A job as it is now, or once it has ended, if that is within `wait` seconds."""
        if wait:
            job = await unless_left(request, desk.wait(job_id, wait))
        else:
            job = await desk.view(job_id)
        job = await desk.placed(job)
        return Response(job, headers=place_headers(job))

    @get("/{job_id:str}/result", responses=also(409, 410))
    async def result(self, job_id: FromPath[str], desk: NamedDependency[Desk]) -> Response[bytes]:
        """The inference server's body, byte for byte.

        409 while there is none, with the reason; 410 if it was forgotten.
        """
        view = await desk.recall(job_id)
        job, last = view.head.job, view.last
        if view.is_forgotten:
            raise forgotten(job_id)
        if isinstance(last, Completed):
            return Response(bytes(last.result), media_type=MediaType.JSON)
        why = f": {last.error.message}" if isinstance(last, Failed) else ""
        state = "has ended without a result" if has_ended(job) else "has not ended yet"
        message = f"the job {state}; it is {status_of(job)}{why}"
        raise ApiError(409, "job_has_no_result", message, job_id=job_id)

    @get(
        "/{job_id:str}/events",
        responses={
            HTTP_200_OK: ResponseSpec(EventList, description="As JSON.", generate_examples=False)
        },
    )
    async def events(
        self,
        job_id: FromPath[str],
        desk: NamedDependency[Desk],
        request: Request[Any, Any, Any],
        last_event_id: LastVersion = None,
    ) -> Response[Any]:
        """All events of a job; with `Accept: text/event-stream` as they come, until it ends."""
        after = _version(last_event_id)
        await desk.recall(job_id)
        if "text/event-stream" not in request.headers.get("accept", ""):
            _, entries = await desk.story(job_id)
            return Response(EventList([event_view(entry) for entry in entries]))
        place = desk.streams.take(desk.caller)
        return desk.streams.answer(_watch_events(desk, job_id, after), place)

    @get("/{job_id:str}/output", responses=also(409))
    async def output(
        self,
        job_id: FromPath[str],
        desk: NamedDependency[Desk],
        last_event_id: LastChunk = None,
    ) -> Stream:
        """The output as it comes, as server-sent events.

        `attempt_lost` voids what came of that `claim`; its `outcome` is `attempt_lost` or
        `attempt_failed`, and `why` says it in words. `resync`: only the result has all of it.
        """
        await desk.require(job_id)
        after = _chunk_id(last_event_id)
        place = desk.streams.take(desk.caller)
        return desk.streams.answer(_watch_output(desk, job_id, after), place)

    @post("/{job_id:str}/cancel", status_code=HTTP_202_ACCEPTED, opt=_CHANGES, responses=also(409))
    async def cancel(self, job_id: FromPath[str], desk: NamedDependency[Desk]) -> JobView:
        """Cancel a job; one that runs is stopped as soon as its worker hears of it. 409 once it ended."""
        await desk.require(job_id)
        await desk.store.execute(job_id, Cancel(by=desk.by))
        return await desk.view(job_id)

    @post("/{job_id:str}/requeue", status_code=HTTP_200_OK, opt=_CHANGES, responses=also(409))
    async def requeue(self, job_id: FromPath[str], desk: NamedDependency[Desk]) -> JobView:
        """Give a failed, cancelled or expired job another life. 409 for any other."""
        await desk.require(job_id)
        await desk.store.execute(job_id, Requeue(by=desk.by))
        return await desk.view(job_id)


async def _watch_events(desk: Desk, job_id: str, after: int) -> AsyncGenerator[bytes, None]:
    async with (
        desk.bells.hear(job_id, is_for_output=False) as bell,
        aclosing(streams.job_events(desk.story, bell, job_id, after)) as events,
    ):
        async for event in events:
            yield event


async def _watch_output(desk: Desk, job_id: str, after: str) -> AsyncGenerator[bytes, None]:
    async with (
        desk.bells.hear(job_id) as bell,
        aclosing(streams.job_output(desk.store, desk.watcher, bell, job_id, after)) as chunks,
    ):
        async for chunk in chunks:
            yield chunk


def _preferred_wait(prefer: str | None) -> float:
    """Seconds of RFC 7240's `wait`; other preferences are none of ours."""
    found = re.search(r"(?:^|[\s,;])wait\s*=\s*\"?(\d{1,6})\"?", prefer or "", re.IGNORECASE)
    return float(found[1]) if found else 0.0


def _version(last_event_id: str | None) -> int:
    if not last_event_id:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 10):
        raise _bad_id(last_event_id, "the version of an event, such as 3")
    return int(last_event_id)


def _chunk_id(last_event_id: str | None) -> str:
    if not last_event_id:
        return "0-0"
    if not re.fullmatch(r"[0-9]{1,9}-[0-9]{1,12}", last_event_id):
        raise _bad_id(last_event_id, "the claim and number of a chunk, such as 1-17")
    return last_event_id


def _bad_id(got: str, takes: str) -> ApiError:
    message = f"Last-Event-ID: got {got!r}, takes {takes}"
    return ApiError(422, "invalid_value", message, param="Last-Event-ID")
