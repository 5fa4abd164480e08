"""The Litestar application: routes, errors, and what the handlers depend on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

from litestar import Litestar, Request
from litestar.datastructures import MutableScopeHeaders, State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.types import Message, Scope

from api.access import Permit, caller_of
from api.bulk import BulkController
from api.desk import Desk
from api.docs.page import Page, docs_router, openapi_json
from api.errors import EXCEPTION_HANDLERS
from api.firehose import FirehoseController
from api.front import Front
from api.guard import Guard
from api.headers import rate_headers
from api.health import healthz, readyz
from api.jobs import JobsController
from api.keyring import Keyring
from api.lists import ListsController
from api.metrics import Expose, metrics_route
from api.openai.endpoints import OpenAIController
from api.queues import QueuesController
from api.replay import ReplayController
from api.submission import Defaults
from api.tracing import trace_of
from core.bells import Bells
from core.errors import StoreError
from core.key_book import KeyBook
from core.rates import FREE
from core.redis import REPLY_TIMEOUT_SECONDS
from core.settings import Settings
from core.store import EventStore
from core.timers import run_timers

log = logging.getLogger(__name__)

_DESK = "desk"  # Of a request, in its scope's state.

# How long a request waits for a Redis that does not answer.
PATIENCE_SECONDS = REPLY_TIMEOUT_SECONDS


def _tell_failure(task: asyncio.Task[None]) -> None:
    """Say it at once when a task that should run for ever has ended with an error."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("the API goes on without its %s", task.get_coro(), exc_info=error)


async def _tell_what_is_left(message: Message, scope: Scope) -> None:
    """Say it on every answer to a submission, whatever came of that."""
    if message["type"] == "http.response.start":
        desk: Desk | None = scope["state"].get(_DESK)
        if desk is not None and desk.left is not FREE:
            MutableScopeHeaders(message).update(rate_headers(desk.left))


@asynccontextmanager
async def _background(desk: Desk, keyring: Keyring) -> AsyncIterator[None]:
    """What goes on for as long as the API runs."""
    with suppress(StoreError):  # Whoever sends a key is told so, until it can be read.
        await keyring.look()
    # Timers too: a deadline passes and a delay ends also while no worker is alive.
    running = (desk.bells.run(), run_timers(desk.store), desk.tail.run(), keyring.run())
    tasks = [asyncio.create_task(work) for work in running]
    for task in tasks:
        task.add_done_callback(_tell_failure)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _defaults(settings: Settings) -> Defaults:
    return Defaults(
        attempts_max=settings.max_attempts,
        timeout_ms=settings.job_timeout_seconds * 1_000,
        wait_max_seconds=settings.sync_timeout_seconds,
        streams_max=settings.stream_limit,
        stall_seconds=settings.stream_stall_seconds,
    )


def create_app(
    store: EventStore,
    bells: Bells,
    settings: Settings,
    is_ready: Callable[[], bool],
    expose: Expose,
) -> Litestar:
    """The API over `store`. It listens to `bells` and fires timers for as long as it runs.

    `is_ready` has its say in `/readyz`, for what else runs in this process; `expose` says what is at
    `/metrics`.
    """
    desk = Desk(store, bells, _defaults(settings), is_ready)
    keyring = Keyring(KeyBook(store.client), bells, settings.openai_api_key)

    def desk_of(request: Request[Any, Any, Any]) -> Desk:
        of_caller = desk.of(caller_of(request), trace_of(request.scope))
        request.scope["state"][_DESK] = of_caller
        return of_caller

    app = Litestar(
        [
            BulkController,
            FirehoseController,
            JobsController,
            ListsController,
            QueuesController,
            ReplayController,
            OpenAIController,
            healthz,
            readyz,
            metrics_route(expose),
            openapi_json,
        ],
        dependencies={"desk": Provide(desk_of, sync_to_thread=False)},
        state=State({"desk": desk}),
        exception_handlers=EXCEPTION_HANDLERS,
        middleware=[Permit],
        before_send=[_tell_what_is_left],
        lifespan=[lambda _: _background(desk, keyring)],
        request_max_body_size=settings.max_body_bytes,
        openapi_config=OpenAPIConfig(
            title="Respool",
            version=version("respool"),
            use_handler_docstrings=True,
            openapi_router=docs_router(),
            render_plugins=[Page()],
        ),
        logging_config=None,
    )
    # Around its router too: what there is not takes a key, and has an id, like what there is.
    guard = Guard(app.asgi_handler, keyring, required=settings.openai_api_key_required)
    app.asgi_handler = Front(guard)
    return app
