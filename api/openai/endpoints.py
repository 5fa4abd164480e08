"""OpenAI's endpoints. A request is a job like any other; its caller waits for it, and may leave."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from litestar import Controller, MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, RawBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Raw

from api.access import allows
from api.bodies import AskOperation
from api.callers import CallerLeft, unless_left
from api.desk import Desk
from api.errors import ApiError
from api.openai.outcomes import failure, job_header, newer, not_in_time, stopping
from api.openai.schemas import Asked, ModelList, model_list, read_request
from api.openai.stream import answer_stream
from api.schemas import SubmitJob
from api.sse import Place
from core.access import Scope
from core.errors import FromTheFuture
from core.events import Completed, Kind
from core.states import has_ended
from core.store import View

Asking = Request[Any, Any, Any]
IdempotencyHeader = Annotated[
    str | None, HeaderParameter(name="Idempotency-Key", min_length=1, max_length=255)
]


class OpenAIController(Controller):
    path = "/v1"
    tags = ("openai",)
    opt = allows(Scope.SUBMIT)

    @post("/chat/completions", status_code=HTTP_200_OK, operation_class=AskOperation)
    async def chat(
        self,
        body: RawBody,
        request: Asking,
        desk: NamedDependency[Desk],
        idempotency_key: IdempotencyHeader = None,
    ) -> Response[Any]:
        """A chat completion, streamed or not. If the caller leaves, the job is cancelled.

        404 for a model that nobody serves, 429 if the queue is full, 504 if it takes too long.
        """
        return await _answer(desk, request, Kind.CHAT, body, idempotency_key)

    @post("/completions", status_code=HTTP_200_OK, operation_class=AskOperation)
    async def complete(
        self,
        body: RawBody,
        request: Asking,
        desk: NamedDependency[Desk],
        idempotency_key: IdempotencyHeader = None,
    ) -> Response[Any]:
        """A completion, streamed or not. If the caller leaves, the job is cancelled."""
        return await _answer(desk, request, Kind.COMPLETIONS, body, idempotency_key)

    @post("/embeddings", status_code=HTTP_200_OK, operation_class=AskOperation)
    async def embed(
        self,
        body: RawBody,
        request: Asking,
        desk: NamedDependency[Desk],
        idempotency_key: IdempotencyHeader = None,
    ) -> Response[Any]:
        """Embeddings. If the caller leaves, the job is cancelled."""
        return await _answer(desk, request, Kind.EMBEDDINGS, body, idempotency_key)

    @get("/models", opt=allows(Scope.SUBMIT, Scope.READ))
    async def models(self, desk: NamedDependency[Desk]) -> ModelList:
        """The models that workers serve which are alive just now."""
        return model_list(await desk.catalog.members())


async def _answer(
    desk: Desk, request: Asking, kind: Kind, body: bytes, idempotency_key: str | None
) -> Response[Any]:
    asked, whole = read_request(body)
    if not asked.stream or kind is Kind.EMBEDDINGS:
        return await _run(desk, request, kind, asked, whole, idempotency_key, None)
    with desk.streams.take(desk.caller) as place:  # Before there is a job that nobody could read.
        return await _run(desk, request, kind, asked, whole, idempotency_key, place)


async def _run(
    desk: Desk,
    request: Asking,
    kind: Kind,
    asked: Asked,
    whole: Raw,
    idempotency_key: str | None,
    place: Place | None,
) -> Response[Any]:
    """The answer to a request; with a place for a stream, as one."""
    submit = SubmitJob(model=asked.model, request=whole, kind=kind)
    try:
        job, _ = await desk.submit(submit, idempotency_key)
    except ApiError as error:
        if error.job_id is not None and idempotency_key is None:  # Written, and not confirmed.
            desk.abandon(error.job_id)
        raise

    def on_left() -> None:
        if idempotency_key is None:  # Who has a key may come back with it.
            desk.abandon(job.id)

    if place is not None:
        events = answer_stream(desk, job.id, kind, wants_usage=asked.wants_usage, on_left=on_left)
        return await _begun(desk, request, events, job.id, place)
    try:
        view = await unless_left(request, desk.until_ended(job.id, desk.wait_max_seconds))
    except CallerLeft:
        on_left()
        raise
    except FromTheFuture as error:
        raise newer(job.id, error) from error
    return _answered(desk, job.id, view)


def _answered(desk: Desk, job_id: str, view: View) -> Response[bytes]:
    if isinstance(view.last, Completed):
        body = bytes(view.last.result)
        return Response(body, media_type=MediaType.JSON, headers=job_header(job_id))
    if has_ended(view.head.job):
        raise failure(job_id, view)
    raise stopping(job_id) if desk.bells.is_closing else not_in_time(job_id, desk.wait_max_seconds)


async def _begun(
    desk: Desk,
    request: Asking,
    events: AsyncGenerator[bytes, None],
    job_id: str,
    place: Place,
) -> Response[Any]:
    """The stream, once it has something to say: what fails before that is an error of its own."""
    first = await unless_left(request, anext(events))

    async def all_events() -> AsyncGenerator[bytes, None]:
        async with aclosing(events):
            yield first
            async for event in events:
                yield event

    return desk.streams.answer(all_events(), place, job_header(job_id))
