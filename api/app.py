"""The Litestar application: routes, errors, and what the handlers depend on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from litestar import Litestar, Request, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig

from api.access import caller_of
from api.bulk import BulkController
from api.desk import Defaults, Desk
from api.errors import EXCEPTION_HANDLERS
from api.health import healthz, readyz
from api.jobs import JobsController
from api.lists import ListsController
from api.openai.endpoints import OpenAIController
from api.queues import QueuesController
from core.bells import Bells
from core.redis import REPLY_TIMEOUT_SECONDS
from core.settings import Settings
from core.store import EventStore
from core.timers import run_timers

log = logging.getLogger(__name__)

# How long a request waits for a Redis that does not answer.
PATIENCE_SECONDS = REPLY_TIMEOUT_SECONDS


def _tell_failure(task: asyncio.Task[None]) -> None:
    """Say it at once when a task that should run for ever has ended with an error."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("the API goes on without its %s", task.get_coro(), exc_info=error)


@get("/openapi.json", include_in_schema=False)
async def openapi_json(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The description of this API, where tools look for it; `/docs` shows it to people."""
    return request.app.openapi_schema.to_schema()


def create_app(
    store: EventStore, bells: Bells, settings: Settings, is_ready: Callable[[], bool]
) -> Litestar:
    """The API over `store`. It listens to `bells` and fires timers for as long as it runs.

    `is_ready` has its say in `/readyz`, for what else runs in this process.
    """
    defaults = Defaults(
        attempts_max=settings.max_attempts,
        timeout_ms=settings.job_timeout_seconds * 1_000,
        wait_max_seconds=settings.sync_timeout_seconds,
    )
    desk = Desk(store, bells, defaults, is_ready)

    @asynccontextmanager
    async def background(_: Litestar) -> AsyncIterator[None]:
        # Timers too: a deadline passes and a delay ends also while no worker is alive.
        running = (bells.run(), run_timers(store), desk.tail.run())
        tasks = [asyncio.create_task(work) for work in running]
        for task in tasks:
            task.add_done_callback(_tell_failure)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def desk_of(request: Request[Any, Any, Any]) -> Desk:
        return desk.of(caller_of(request))

    return Litestar(
        [
            BulkController,
            JobsController,
            ListsController,
            QueuesController,
            OpenAIController,
            healthz,
            readyz,
            openapi_json,
        ],
        dependencies={"desk": Provide(desk_of, sync_to_thread=False)},
        state=State({"desk": desk}),
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=[background],
        request_max_body_size=settings.max_body_bytes,
        openapi_config=OpenAPIConfig(title="Respool", version=version("respool"), path="/docs"),
        logging_config=None,
    )
