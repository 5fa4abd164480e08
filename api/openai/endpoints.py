"""OpenAI's endpoints. A request is a job like any other; its caller waits for it, and may leave."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from litestar import Controller, MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, RawBody
from litestar.status_codes import HTTP_200_OK

from api.access import allows
from api.callers import CallerLeft, unless_left
from api.desk import Desk
from api.docs.document import also
from api.errors import JOB_HEADER, ApiError, forgotten
from api.headers import place_headers
from api.openai.operations import ChatOperation, CompletionsOperation, EmbeddingsOperation
from api.openai.options import OnTimeout, Options, options_in
from api.openai.outcomes import failure, not_in_time, out_of_sight, stopping
from api.openai.schemas import Model, ModelList, model_list, model_named, read_request
from api.openai.stream import answer_stream, is_comment
from api.schemas import SubmitJob, job_view
from api.sse import Place
from core.access import Scope
from core.errors import StoreError
from core.events import Completed, Kind
from core.states import has_ended
from core.store import View

Asking = Request[Any, Any, Any]


class OpenAIController(Controller):
    path = "/v1"
    tags = ("openai",)
    opt = allows(Scope.SUBMIT)

    @post(
        "/chat/completions",
        status_code=HTTP_200_OK,
        operation_class=ChatOperation,
        responses=also(404, 409, 410, 502, 504),
    )
    async def chat(
        self, body: RawBody, request: Asking, desk: NamedDependency[Desk]
    ) -> Response[Any]:
        """A chat completion, streamed or not. If the caller leaves, the job is cancelled.

        404 for a model that nobody serves, 429 if the queue is full, 504 if it takes too long.
        """
        return await _answer(desk, request, Kind.CHAT, body)

    @post(
        "/completions",
        status_code=HTTP_200_OK,
        operation_class=CompletionsOperation,
        responses=also(404, 409, 410, 502, 504),
    )
    async def complete(
        self, body: RawBody, request: Asking, desk: NamedDependency[Desk]
    ) -> Response[Any]:
        """A completion, streamed or not. If the caller leaves, the job is cancelled."""
        return await _answer(desk, request, Kind.COMPLETIONS, body)

    @post(
        "/embeddings",
        status_code=HTTP_200_OK,
        operation_class=EmbeddingsOperation,
        responses=also(404, 409, 410, 502, 504),
    )
    async def embed(
        self, body: RawBody, request: Asking, desk: NamedDependency[Desk]
    ) -> Response[Any]:
        """Embeddings. If the caller leaves, the job is cancelled."""
        return await _answer(desk, request, Kind.EMBEDDINGS, body)

    @get("/models", opt=allows(Scope.SUBMIT, Scope.READ))
    async def models(self, desk: NamedDependency[Desk]) -> ModelList:
        """The models of all workers that are alive just now."""
        return model_list(await desk.catalog.crew())

    @get("/models/{model:path}", opt=allows(Scope.SUBMIT, Scope.READ), responses=also(404))
    async def model(self, model: FromPath[str], desk: NamedDependency[Desk]) -> Model:
        """A model that a worker serves. Its name may have slashes. 404 if no worker alive has it."""
        return model_named(model.removeprefix("/"), await desk.catalog.crew())


async def _answer(desk: Desk, request: Asking, kind: Kind, body: bytes) -> Response[Any]:
    asked, whole = read_request(body)
    options = options_in(request.headers)
    submit = SubmitJob(
        model=asked.model,
        request=whole,
        kind=kind,
        queue=options.queue,
        priority=options.priority,
        deadline_seconds=options.deadline_seconds,
        timeout_seconds=options.timeout_seconds,
    )
    if not asked.stream or kind is Kind.EMBEDDINGS:
        return await _whole(desk, request, submit, options)
    with desk.streams.take(desk.caller) as place:  # Before there is a job that nobody could read.
        return await _streamed(desk, request, submit, options, asked.wants_usage, place)


async def _submitted(desk: Desk, submit: SubmitJob, options: Options) -> str:
    try:
        job, _ = await desk.submit(submit, options.idempotency_key)
    except ApiError as error:
        if error.job_id is not None:  # Written, and not confirmed.
            _on_left(desk, error.job_id, options)
        raise
    return job.id


def _on_left(desk: Desk, job_id: str, options: Options) -> None:
    if options.idempotency_key is None:  # Who has a key may come back with it.
        desk.abandon(job_id)


async def _whole(
    desk: Desk, request: Asking, submit: SubmitJob, options: Options
) -> Response[bytes]:
    job_id = await _submitted(desk, submit, options)
    try:
        view = await unless_left(request, desk.until_ended(job_id, desk.wait_max_seconds))
    except CallerLeft:
        _on_left(desk, job_id, options)
        raise
    except StoreError as error:
        raise out_of_sight(job_id, error) from error
    if view.is_forgotten:
        raise forgotten(job_id)
    if isinstance(view.last, Completed):
        body = bytes(view.last.result)
        return Response(body, media_type=MediaType.JSON, headers={JOB_HEADER: job_id})
    if has_ended(view.head.job):
        raise failure(job_id, view)
    if desk.bells.is_closing:
        raise stopping(job_id)
    raise await _late(desk, job_id, view, options.on_timeout)


async def _late(desk: Desk, job_id: str, view: View, on_timeout: OnTimeout) -> ApiError:
    is_cancelled = on_timeout is OnTimeout.CANCEL
    if is_cancelled:
        desk.abandon(job_id, "the caller's time was over")
    job = await desk.placed(job_view(job_id, view))
    return not_in_time(job, desk.wait_max_seconds, is_cancelled=is_cancelled)


async def _streamed(
    desk: Desk,
    request: Asking,
    submit: SubmitJob,
    options: Options,
    wants_usage: bool,
    place: Place,
) -> Response[Any]:
    """The stream, once it has something to say: what fails before that is an error of its own."""
    job_id = await _submitted(desk, submit, options)
    events = answer_stream(
        desk,
        job_id,
        submit.kind,
        wants_usage=wants_usage,
        on_left=lambda: _on_left(desk, job_id, options),
    )
    first = await unless_left(request, anext(events))

    async def all_events() -> AsyncGenerator[bytes, None]:
        async with aclosing(events):
            yield first
            async for event in events:
                yield event

    headers = {JOB_HEADER: job_id}
    if is_comment(first) and (job := await desk.glance(job_id)) is not None:
        headers |= place_headers(job)
    return desk.streams.answer(all_events(), place, headers)
