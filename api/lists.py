"""What the views show: lists of jobs, queues, workers, usage, outcomes.

They follow the log closely, but follow it. Each answer states the `position` that it is of, and
`min_position` waits until the views have come that far.
"""

import re
from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from api.access import allows, require_all_tenants, tenant_of
from api.desk import Desk
from api.errors import ApiError
from api.schemas import (
    JobList,
    OutcomeList,
    QueueList,
    QueueShown,
    UsageList,
    WorkerList,
    note_of,
    row_view,
    worker_shown,
)
from core.access import Scope
from core.settings import QUEUE_NAME
from core.states import STATUSES
from projections.reading.jobs import Filter, list_jobs, read_cursor
from projections.reading.position import Reader, parse_position
from projections.reading.queues import QueueView, queues
from projections.reading.usage import outcomes, usage
from projections.reading.workers import workers

_DAYS_MAX = 366


def _shaped(description: str, **shape: str) -> Any:
    """A parameter whose shape the OpenAPI document states; it is checked where it is parsed."""
    return QueryParameter(description=description, schema_extra=shape)


MinPosition = Annotated[
    str | None,
    _shaped(
        "Wait until the views have come to a position that an answer gave.",
        pattern=r"^[0-9]{1,15}-[0-9]{1,6}(,[0-9]{1,15}-[0-9]{1,6})*$",
    ),
]
Text = Annotated[str | None, QueryParameter(max_length=256)]
Statuses = Annotated[
    str | None,
    _shaped(
        f"Some of {', '.join(STATUSES)}, with commas between them.",
        pattern=rf"^({'|'.join(STATUSES)})(,({'|'.join(STATUSES)}))*$",
    ),
]
QueuePath = Annotated[
    str,
    PathParameter(description="A queue's name.", schema_extra={"pattern": f"^{QUEUE_NAME}$"}),
]
QueueText = Annotated[str | None, _shaped("A queue's name.", pattern=f"^{QUEUE_NAME}$")]
Time = Annotated[str | None, _shaped("RFC 3339, such as 2026-11-25T14:03:00Z.", format="date-time")]
Limit = Annotated[int, QueryParameter(ge=1, le=200)]
FirstDay = Annotated[
    str | None,
    QueryParameter(
        name="from",
        description="A day in UTC, 365 days before `to` at most.",
        schema_extra={"format": "date"},
    ),
]
Day = Annotated[str | None, _shaped("A day in UTC, such as 2026-11-25.", format="date")]


def takes(*names: str) -> Callable[[Request[Any, Any, Any]], Coroutine[Any, Any, None]]:
    """A hook that refuses other parameters, and one given twice: a misspelled filter would mean everything.

    It raises ApiError 422.
    """

    async def check(request: Request[Any, Any, Any]) -> None:
        for name in request.query_params:
            if name not in names:
                message = f"{name}: there is no such parameter; takes {', '.join(names) or 'none'}"
                raise ApiError(422, "invalid_value", message, param=name)
            if len(request.query_params.getall(name)) > 1:
                message = f"{name}: takes one value; it was given several times"
                raise ApiError(422, "invalid_value", message, param=name)

    return check


FILTERS = ("status", "queue", "model", "tenant", "created_after", "created_before")


class ListsController(Controller):
    path = "/v1"
    tags = ("lists",)
    opt = allows(Scope.READ)

    @get("/queues", before_request=takes("min_position"))
    async def queues(
        self, desk: NamedDependency[Desk], min_position: MinPosition = None
    ) -> QueueList:
        """Every queue that has jobs, had some within the hour, or is paused."""
        await _until(desk.reader, min_position)
        position, views = await queues(desk.reader)
        return QueueList(queues=views, position=str(position), note=note_of(position))

    @get("/queues/{name:str}", before_request=takes("min_position"))
    async def queue(
        self, name: QueuePath, desk: NamedDependency[Desk], min_position: MinPosition = None
    ) -> QueueShown:
        """A queue: depth, who waits longest, rates of the last minutes, waits and runs of the last hour."""
        check_queue(name)
        await _until(desk.reader, min_position)
        position, views = await queues(desk.reader)
        found = next((view for view in views if view.name == name), QueueView(name=name))
        fields = {field: getattr(found, field) for field in found.__struct_fields__}
        return QueueShown(**fields, position=str(position), note=note_of(position))

    @get("/workers", before_request=takes("min_position"))
    async def workers(
        self, desk: NamedDependency[Desk], min_position: MinPosition = None
    ) -> WorkerList:
        """Every worker that there is, or was within the retention time, the newest first.

        Of the jobs that it runs a tenant sees its own.
        """
        await _until(desk.reader, min_position)
        position, views = await workers(desk.reader)
        shown = [worker_shown(view) for view in await desk.without_others(views)]
        return WorkerList(workers=shown, position=str(position), note=note_of(position))

    @get("/usage", before_request=takes("tenant", "model", "from", "to", "min_position"))
    async def usage(
        self,
        desk: NamedDependency[Desk],
        tenant: Text = None,
        model: Text = None,
        from_: FirstDay = None,
        to: Day = None,
        min_position: MinPosition = None,
    ) -> UsageList:
        """Requests and tokens by tenant, model and day of UTC; of the last 30 days, unless said."""
        last = _day("to", to) or datetime.now(UTC).date()
        first = _day("from", from_) or last - timedelta(days=29)
        if not 0 <= (last - first).days < _DAYS_MAX:
            message = f"from: takes a day that is at most {_DAYS_MAX - 1} days before `to`"
            raise ApiError(422, "invalid_value", message, param="from")
        tenant = tenant_of(desk.caller, tenant)
        await _until(desk.reader, min_position)
        position, views = await usage(desk.reader, first, last, tenant, model)
        return UsageList(usage=views, position=str(position), note=note_of(position))

    @get("/outcomes", before_request=takes("queue", "model", "hours", "min_position"))
    async def outcomes(
        self,
        desk: NamedDependency[Desk],
        queue: QueueText = None,
        model: Text = None,
        hours: Annotated[int, QueryParameter(ge=1, le=168)] = 24,
        min_position: MinPosition = None,
    ) -> OutcomeList:
        """How attempts and jobs ended in the last hours, errors by their kind; not for one tenant's key."""
        require_all_tenants(desk.caller)
        await _until(desk.reader, min_position)
        position, views = await outcomes(desk.reader, hours, queue, model)
        return OutcomeList(outcomes=views, position=str(position), note=note_of(position))


async def page_of_jobs(
    desk: Desk,
    which: Filter,
    cursor: str | None,
    limit: int,
    min_position: str | None,
) -> JobList:
    """A page of the list of jobs. Raises ApiError 422, ViewsBehind, StoreNotReady, StoreUnavailable."""
    if cursor is not None:
        checked("cursor", read_cursor, cursor)
    await _until(desk.reader, min_position)
    page = await list_jobs(desk.reader, which, limit, cursor)
    return JobList(
        jobs=[row_view(row) for row in page.jobs],
        cursor=page.cursor,
        position=str(page.position),
        note=note_of(page.position),
    )


def filter_of(
    status: str | None,
    queue: str | None,
    model: str | None,
    tenant: str | None,
    created_after: str | None,
    created_before: str | None,
) -> Filter:
    """Which jobs are meant. Raises ApiError 422 for what is no status, no queue's name, or no time."""
    if queue is not None:
        check_queue(queue)
    return Filter(
        statuses=statuses_of(status),
        queue=queue,
        model=model,
        tenant=tenant,
        created_from_ms=time_ms("created_after", created_after),
        created_before_ms=time_ms("created_before", created_before),
    )


def statuses_of(text: str | None) -> tuple[str, ...]:
    """Statuses with commas between them. Raises ApiError 422 for what is none."""
    if text is None:
        return ()
    statuses = tuple(one.strip() for one in text.split(","))
    for one in statuses:
        if one not in STATUSES:
            message = f"status: takes some of {', '.join(STATUSES)}, not {one!r}"
            raise ApiError(422, "invalid_value", message, param="status")
    return statuses


def check_queue(name: str) -> None:
    """Raises ApiError 422 for what cannot be a queue's name."""
    if not re.fullmatch(QUEUE_NAME, name):
        message = "a queue's name takes 1 to 64 letters, digits, dots, underscores and hyphens"
        raise ApiError(422, "invalid_value", message, param="queue")


def checked(param: str, parse: Any, *arguments: Any) -> Any:
    """What `parse` makes of a parameter; its ValueError as ApiError 422."""
    try:
        return parse(*arguments)
    except ValueError as error:
        raise ApiError(422, "invalid_value", f"{param}: {error}", param=param) from error


async def _until(reader: Reader, min_position: str | None) -> None:
    if min_position is not None:
        checked("min_position", parse_position, min_position, len(reader.store.shards))
        await reader.until(min_position)


def time_ms(param: str, text: str | None) -> int | None:
    """Milliseconds since 1970 of a time in RFC 3339. Raises ApiError 422 for what is none."""

    def parse(text: str) -> int:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise ValueError("takes a time such as 2026-11-25T14:03:00Z") from error
        if moment.tzinfo is None:
            raise ValueError("takes a time with its zone, such as 2026-11-25T14:03:00Z")
        return max(0, int(moment.timestamp() * 1_000))

    return None if text is None else int(checked(param, parse, text))


def _day(param: str, text: str | None) -> date | None:
    def parse(text: str) -> date:
        try:
            return date.fromisoformat(text)
        except ValueError as error:
            raise ValueError("takes a day such as 2026-11-25") from error

    if text is None:
        return None
    day: date = checked(param, parse, text)
    return day
