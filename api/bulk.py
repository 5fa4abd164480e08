"""Requeue and cancel by filter, as an operator needs it after an incident: with a dry run, page by page."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Final

from litestar import Controller, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Operation
from litestar.params import RawBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta, Struct, structs

from api.access import allows, tenant_of
from api.bodies import body_of, decode_body
from api.desk import Desk
from api.errors import ApiError
from api.lists import checked, filter_of
from core.access import Scope
from core.commands import Cancel, Command, Requeue
from core.errors import Conflict, NotDurable, UnknownJob
from core.job import CommandRefused, decide
from core.states import status_of
from core.store import EventStore
from projections.reading.jobs import Filter, list_jobs, read_cursor
from projections.rows import JobRow

_AT_ONCE: Final = 50
_PAGE: Final = 200
ENDED: Final = ("failed", "cancelled", "expired")
OPEN: Final = ("scheduled", "queued", "running")


class Bulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs, and how many of them in this call; `cursor` goes on where the last call stopped."""

    status: str | None = None
    queue: str | None = None
    model: str | None = None
    tenant: str | None = None
    created_after: str | None = None
    created_before: str | None = None
    all: bool = False  # Has to be said if nothing else is.
    dry_run: bool = False
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 200
    cursor: str | None = None


class Refusal(Struct, frozen=True):
    """A job that matched, and why nothing was done to it: it moved on meanwhile."""

    job_id: str
    why: str


class BulkDone(Struct, frozen=True, kw_only=True):
    """What was done, or with `dry_run` would be."""

    dry_run: bool
    matched: int
    done: int
    refused: list[Refusal]
    job_ids: list[str]
    cursor: str | None  # To go on with; null when all that match were seen.


@dataclass
class BulkOperation(Operation):
    """A call by filter, as the OpenAPI document shows it."""

    def to_schema(self) -> dict[str, Any]:
        return super().to_schema() | {"requestBody": body_of(Bulk)}


class BulkController(Controller):
    path = "/v1/jobs"
    tags = ("jobs",)
    opt = allows(Scope.OPERATE)

    @post("/requeue", status_code=HTTP_200_OK, operation_class=BulkOperation)
    async def requeue_all(self, body: RawBody, desk: NamedDependency[Desk]) -> BulkDone:
        """Give all failed, cancelled or expired jobs that match another life, the newest first."""
        return await _carry_out(desk, decode_body(body, Bulk), Requeue(by=desk.by), ENDED)

    @post("/cancel", status_code=HTTP_200_OK, operation_class=BulkOperation)
    async def cancel_all(self, body: RawBody, desk: NamedDependency[Desk]) -> BulkDone:
        """Cancel all jobs that match and have not ended, the newest first."""
        return await _carry_out(desk, decode_body(body, Bulk), Cancel(by=desk.by), OPEN)


async def _carry_out(
    desk: Desk, asked: Bulk, command: Command, allowed: tuple[str, ...]
) -> BulkDone:
    which = structs.replace(_filter(asked, allowed), tenant=tenant_of(desk.caller, asked.tenant))
    rows, cursor = await _matching(desk, which, asked)
    refused: list[Refusal] = []
    if not asked.dry_run:
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(row: JobRow) -> None:
            async with room:
                try:
                    await _execute(desk.store, row.id, command, which.statuses)
                except (CommandRefused, UnknownJob, _MovedOn, NotDurable) as error:
                    refused.append(Refusal(row.id, str(error)))

        await asyncio.gather(*(one(row) for row in rows))
    return BulkDone(
        dry_run=asked.dry_run,
        matched=len(rows),
        done=0 if asked.dry_run else len(rows) - len(refused),
        refused=refused,
        job_ids=[row.id for row in rows],
        cursor=cursor,
    )


class _MovedOn(Exception):
    """The job is no longer in a status that was meant."""


async def _execute(
    store: EventStore, job_id: str, command: Command, statuses: tuple[str, ...]
) -> None:
    """Carry a command out as long as the job is in one of these statuses, whatever the list said.

    Whoever cancels what is queued does not want to stop what has begun to run meanwhile. Raises
    _MovedOn, and what `EventStore.execute` raises.
    """
    job = (await store.require(job_id)).job
    while True:
        if status_of(job) not in statuses:
            raise _MovedOn(f"the job is {status_of(job)} by now")
        try:
            await store.append(job_id, job, decide(job, command))
        except Conflict as conflict:
            job = conflict.newer or (await store.require(job_id)).job
        else:
            return


def _filter(asked: Bulk, allowed: tuple[str, ...]) -> Filter:
    which = filter_of(
        asked.status,
        asked.queue,
        asked.model,
        asked.tenant,
        asked.created_after,
        asked.created_before,
    )
    if which.is_any and not asked.all:
        message = 'without any filter this is every job: say so with "all": true'
        raise ApiError(422, "invalid_value", message, param="all")
    for status in which.statuses:
        if status not in allowed:
            message = f"status: takes some of {', '.join(allowed)} here, not {status!r}"
            raise ApiError(422, "invalid_value", message, param="status")
    return which if which.statuses else which.narrowed_to(allowed)


async def _matching(desk: Desk, which: Filter, asked: Bulk) -> tuple[list[JobRow], str | None]:
    rows: list[JobRow] = []
    cursor = asked.cursor
    if cursor is not None:
        checked("cursor", read_cursor, cursor)
    while len(rows) < asked.limit:
        page = await list_jobs(desk.reader, which, min(_PAGE, asked.limit - len(rows)), cursor)
        rows += page.jobs
        cursor = page.cursor
        if cursor is None:
            break
    return rows, cursor
