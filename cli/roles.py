"""The roles of a process, put together: an API, a worker."""

import asyncio
import logging
import os
import platform
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from litestar.types import ASGIApp
from redis.asyncio import Redis

from api.app import PATIENCE_SECONDS, create_app
from cli.opening import open_store, patiently
from cli.protocol import WireLimits
from cli.serving import bind, serving
from consumers.execute import LossLimits
from consumers.gpu import gpus
from consumers.health import create_health_app
from consumers.upstream.base import Limits, Upstream, UpstreamError
from consumers.upstream.connect import connect as connect_upstream
from consumers.worker import Identity, Stop, Worker
from core.bells import Bells
from core.key_book import KeyBook
from core.redis import connect
from core.settings import Settings, SettingsError
from projections.projector import Projector
from projections.runner import BATCH_ENTRIES

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from consumers.spans import WorkerSpans

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

STORE_WAIT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.5
_GUESSABLE_CHARS: Final = 20


def stop_on_signals(stop: Stop) -> None:
    """SIGTERM and SIGINT ask to stop: the first to drain, the second to do it now."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.ask)


async def require_a_key(settings: Settings, client: Redis) -> None:
    """Raises SettingsError if keys are required and there is none: nobody could get in."""
    if not settings.openai_api_key_required or settings.openai_api_key is not None:
        return
    book = KeyBook(client)
    await book.catch_up()
    if not book.has_live:
        raise SettingsError(
            "OPENAI_API_KEY_REQUIRED=true, and there is no API key: set OPENAI_API_KEY to one of your "
            "own, or make one with `respool keys make NAME`"
        )


def _warn_of_a_guessable_key(settings: Settings) -> None:
    key = settings.openai_api_key
    if settings.openai_api_key_required and key is not None and len(key) < _GUESSABLE_CHARS:
        log.warning(
            "OPENAI_API_KEY has fewer than %d characters and may be guessed; "
            "`openssl rand -base64 32` makes one that will not be",
            _GUESSABLE_CHARS,
        )


@asynccontextmanager
async def running_api(
    settings: Settings,
    redis_url: str,
    is_ready: Callable[[], bool] = lambda: True,
    tracer: "Tracer | None" = None,
) -> AsyncIterator[str]:
    """The base URL of an API, which serves until the block ends."""
    limits = WireLimits(body_seconds=settings.body_timeout_seconds)
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(bind(settings.api_host, settings.api_port, "API_PORT"))
        store = await stack.enter_async_context(open_store(settings, redis_url, PATIENCE_SECONDS))
        await patiently(lambda: require_a_key(settings, store.client), redis_url)
        _warn_of_a_guessable_key(settings)
        bells = Bells(store.client)
        app = _traced(create_app(store, bells, settings, is_ready), tracer)
        async with serving(app, listening, limits, settings.trusted_proxies) as url:
            try:
                yield url
            finally:
                bells.close()  # Streams and long polls end now, rather than be cut off.


def _traced(app: ASGIApp, tracer: "Tracer | None") -> ASGIApp:
    if tracer is None:
        return app
    from api.spans import RequestSpans  # noqa: PLC0415 - OpenTelemetry is imported if it is wanted.

    return RequestSpans(app, tracer)


def spans_of(
    tracer: "Tracer | None", identity: Identity, upstream: Upstream
) -> "WorkerSpans | None":
    """What records a worker's attempts; None if nobody is to get that."""
    if tracer is None:
        return None
    from consumers.spans import WorkerSpans  # noqa: PLC0415 - as above.

    return WorkerSpans(tracer, identity.name, upstream)


def _tell_failure(task: asyncio.Task[None]) -> None:
    """Say it at once when a projector, which should run for ever, has ended with an error."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("the views stand still: the projector ended", exc_info=error)


@asynccontextmanager
async def running_projector(
    settings: Settings, redis_url: str, batch_entries: int = BATCH_ENTRIES
) -> AsyncIterator[asyncio.Task[None]]:
    """What keeps the views up with the log until the block ends; done only if it failed."""
    async with open_store(settings, redis_url, PATIENCE_SECONDS) as store:
        projecting = asyncio.create_task(Projector(store, batch_entries).run())
        projecting.add_done_callback(_tell_failure)
        try:
            yield projecting
        finally:
            projecting.cancel()
            await asyncio.gather(projecting, return_exceptions=True)


async def run_worker(
    settings: Settings,
    redis_url: str,
    upstream_url: str,
    stop: Stop,
    is_ready: Callable[[], None] = lambda: None,
    tracer: "Tracer | None" = None,
) -> None:
    """Run a worker until it is asked to stop, and has; asked while it starts, it ends at once."""
    async with AsyncExitStack() as stack:
        starting = _start_worker(stack, settings, redis_url, upstream_url, tracer)
        worker = await stop.unless_asked(starting)
        if worker is not None:
            await worker.run(stop, is_ready)


async def _start_worker(
    stack: AsyncExitStack,
    settings: Settings,
    redis_url: str,
    upstream_url: str,
    tracer: "Tracer | None",
) -> Worker:
    """A worker whose store and upstream are there, and whose health is served until the stack ends."""
    listening = stack.enter_context(bind(settings.worker_host, settings.worker_port, "WORKER_PORT"))
    lease_client = connect(redis_url)
    stack.push_async_callback(lease_client.aclose)
    # An outcome is worth sending again for as long as the claim may still stand. Nobody waits here to
    # hear that it is durable, and a slot, a timer or the recovery of another job must not either.
    patience_seconds = float(settings.lease_seconds)
    store = await stack.enter_async_context(
        open_store(settings, redis_url, patience_seconds, confirm_in_background=True)
    )
    upstream = await _await_upstream(settings, upstream_url)
    stack.push_async_callback(upstream.aclose)
    limits = LossLimits(
        deliveries_max=settings.max_deliveries, recovery_policy=settings.recovery_policy
    )
    bells = Bells(store.client)
    identity = _identity(settings)
    spans = spans_of(tracer, identity, upstream)
    worker = Worker(identity, store, lease_client, bells, upstream, limits, spans)
    await stack.enter_async_context(serving(create_health_app(worker), listening))
    return worker


async def _await_upstream(settings: Settings, url: str) -> Upstream:
    """The upstream once it has said what it is."""
    said = False
    while True:
        try:
            return await connect_upstream(
                url, settings.upstream_kind, settings.upstream_api_key, Limits()
            )
        except ValueError as error:
            raise SettingsError(f"UPSTREAM_URL={url!r}: {error}") from error
        except UpstreamError as error:
            if not said:
                log.warning("waiting for the upstream: %s", error)
                said = True
        await asyncio.sleep(_POLL_SECONDS)


def _identity(settings: Settings) -> Identity:
    host = platform.node() or "localhost"
    return Identity(
        name=f"{host}-{os.getpid()}-{secrets.token_hex(3)}",
        host=host,
        concurrency=settings.worker_concurrency,
        queues=settings.worker_queues,
        lease_seconds=settings.lease_seconds,
        grace_seconds=settings.shutdown_grace_seconds,
        gpus=gpus(),
    )
