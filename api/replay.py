"""`/v1/replay`: the cluster as it was, and the life of a job, as the log tells them.

The same as `respool replay state` and `timeline` with `--json`, within the bounds of `api.looks`.
"""

from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from api.access import allows, require_all_tenants
from api.callers import unless_left
from api.desk import Desk
from api.errors import ApiError
from api.lists import takes, time_ms
from core.access import Scope
from core.errors import UnknownJob
from core.ids import is_job_id
from projections.past.looking import LiesAhead, state_at, timeline
from projections.past.state import State
from projections.past.timeline import Timeline

At = Annotated[
    str,
    QueryParameter(
        description="RFC 3339, such as 2026-11-25T14:03:07Z; not in the future.",
        schema_extra={"format": "date-time"},
    ),
]


class StateThen(Struct, frozen=True, kw_only=True):
    """The cluster at a moment; `notes` say what the log lacks."""

    state: State
    notes: list[str]


class TimelineTold(Struct, frozen=True, kw_only=True):
    """A job's life; `notes` say what the log lacks."""

    timeline: Timeline
    notes: list[str]


class ReplayController(Controller):
    path = "/v1/replay"
    tags = ("replay",)
    opt = allows(Scope.READ)

    @get("/state", before_request=takes("at"))
    async def state(
        self, request: Request[Any, Any, Any], desk: NamedDependency[Desk], at: At
    ) -> StateThen:
        """Queues, workers and what they ran, as they were at a moment; not for one tenant's key.

        Reads the log from its beginning: 503 `replay_too_long` if that takes longer than 30 s.
        """
        require_all_tenants(desk.caller)
        at_ms = time_ms("at", at) or 0
        try:
            state, notes = await unless_left(
                request,
                desk.looks.take(
                    lambda rest: state_at(desk.store, at_ms, rest=rest),
                    f"respool replay state --at {at}",
                ),
            )
        except LiesAhead as error:
            raise ApiError(422, "invalid_value", f"at: {error}", param="at") from error
        return StateThen(state=state, notes=notes)

    @get("/timeline/{job_id:str}", before_request=takes())
    async def timeline(
        self, job_id: FromPath[str], request: Request[Any, Any, Any], desk: NamedDependency[Desk]
    ) -> TimelineTold:
        """A job's transitions with their causes, and what it waited for in between.

        Reads the log up to the job's end: 503 `replay_too_long` if that takes longer than 30 s. It tells of
        other jobs how many there were, and of workers their names.
        """
        head = await desk.store.load(job_id) if is_job_id(job_id) else None
        if head is not None and not desk.caller.may_see(head.job.tenant):
            raise UnknownJob(job_id)
        told, notes = await unless_left(
            request,
            desk.looks.take(
                lambda rest: timeline(desk.store, job_id, rest=rest),
                f"respool replay timeline {job_id}",
            ),
        )
        if not desk.caller.may_see(told.tenant):  # Its head is gone, but not its history.
            raise UnknownJob(job_id)
        return TimelineTold(timeline=told, notes=notes)
