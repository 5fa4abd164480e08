"""`GET /v1/events`: everything that happens, as server-sent events, by position in the log."""

from typing import Annotated, Any, Final, get_args

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter, QueryParameter
from litestar.status_codes import HTTP_200_OK

from api.access import allows
from api.desk import Desk
from api.errors import ApiError
from api.feeds import Start, Wanted, listen
from api.lists import Text, check_queue, checked, takes
from core.access import Scope
from core.events import AnyEvent
from projections.reading.position import parse_position

TYPES: Final = tuple(str(cls.__struct_config__.tag) for cls in get_args(AnyEvent))

LastPosition = Annotated[str | None, HeaderParameter(name="Last-Event-ID", max_length=4_096)]
From = Annotated[
    str | None,
    QueryParameter(
        name="from",
        max_length=4_096,
        description="Begin after a position, such as a list's; 0-0 is the beginning of the log.",
    ),
]
Types = Annotated[
    str | None,
    QueryParameter(name="type", max_length=512, description="Several with commas between them."),
]


class FirehoseController(Controller):
    path = "/v1/events"
    tags = ("events",)
    opt = allows(Scope.READ)

    @get(
        before_request=takes("type", "queue", "from"),
        responses={
            HTTP_200_OK: ResponseSpec(
                str, media_type="text/event-stream", description="Server-sent events."
            )
        },
    )
    async def firehose(
        self,
        desk: NamedDependency[Desk],
        type_: Types = None,
        queue: Text = None,
        from_: From = None,
        last_event_id: LastPosition = None,
    ) -> Response[Any]:
        """All events as they come, from now on, or after `Last-Event-ID` or `from`.

        The id of each is a position in the log, from which it goes on. An event is as its job's own stream
        has it, with `job_id`, `queue` and `tenant`, or with its `worker` or `queue`, and without `request`
        and `result`. A tenant sees the events of its own jobs, and all of workers and queues. `position`
        tells where a stream is that has nothing to send. `resync` tells that events are missing, as they
        were trimmed or lost: read again what you have derived from them. `error` ends the stream.
        Within a shard the order is the log's; events of several shards are in no strict order.
        """
        wanted = Wanted(_types(type_), queue, desk.caller)
        if queue is not None:
            check_queue(queue)
        start = _start(desk, last_event_id, from_)
        place = desk.streams.take(desk.caller)
        return desk.streams.answer(listen(desk.firehose, wanted, start), place)


def _start(desk: Desk, last_event_id: str | None, from_: str | None) -> Start | None:
    """Where to begin: a client that comes back sends both, and has come further than `from`."""
    shards = len(desk.store.shards)
    if last_event_id:
        entries = checked("Last-Event-ID", parse_position, last_event_id, shards)
        return Start(tuple(entries), is_ours=True)
    if from_ is not None:
        return Start(tuple(checked("from", parse_position, from_, shards)), is_ours=False)
    return None


def _types(text: str | None) -> frozenset[str]:
    """Types with commas between them. Raises ApiError 422 for what is none."""
    if text is None:
        return frozenset()
    types = [one.strip() for one in text.split(",")]
    for one in types:
        if one not in TYPES:
            message = f"type: takes some of {', '.join(TYPES)}, not {one!r}"
            raise ApiError(422, "invalid_value", message, param="type")
    return frozenset(types)
