"""`respool api`: an API, put together and served."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import click
from litestar.types import ASGIApp
from redis.asyncio import Redis
from structlog.contextvars import get_contextvars

from api.app import PATIENCE_SECONDS, create_app
from api.front import REQUEST_ID
from api.metrics import RequestFigures
from cli.journal import Marks
from cli.metrics import RequestTallies, api_exposition
from cli.opening import open_store, patiently
from cli.process import (
    required_redis_url,
    run_role,
    settings_of_environment,
    stop_on_signals,
    traced,
)
from cli.protocol import WireLimits
from cli.serving import bind, serving
from cli.watching import marks_of, watching
from consumers.stop import Stop
from core.bells import Bells
from core.key_book import KeyBook
from core.settings import Settings, SettingsError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)

_GUESSABLE_CHARS: Final = 20


@click.command()
def api() -> None:
    """Run an API, on API_HOST and API_PORT.

    DURABILITY says when a job is accepted: once Redis has it (everysec), has synced it to disk
    (always), or a replica has too (replicated).

    \b
    Example: REDIS_URL=redis://localhost:6379/0 respool api
    """
    settings = settings_of_environment()
    redis_url = required_redis_url(settings, "api")

    async def serve() -> None:
        stop = Stop()
        stop_on_signals(stop)
        async with AsyncExitStack() as stack:
            starting = stack.enter_async_context(running_api(settings, redis_url, tracer=tracer))
            url = await stop.unless_asked(starting)
            if url is not None:
                click.echo(f"serving {url}", err=True)
                await stop.draining.wait()

    with traced(settings, "respool-api") as tracer:
        run_role(serve)


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
        marks = (_with_request, *marks_of(tracer))
        figures = await stack.enter_async_context(watching(store, settings, *marks))
        requests = RequestTallies()
        exposition = api_exposition(store, figures, requests)
        app = create_app(store, bells, settings, is_ready, exposition.text)
        counted = RequestFigures(app, requests.counts, requests.durations)
        async with serving(
            _traced(counted, tracer), listening, limits, settings.trusted_proxies
        ) as url:
            try:
                yield url
            finally:
                bells.close()  # Streams and long polls end now, rather than be cut off.


def _traced(app: ASGIApp, tracer: "Tracer | None") -> ASGIApp:
    if tracer is None:
        return app
    from api.spans import RequestSpans  # noqa: PLC0415 - OpenTelemetry is imported if it is wanted.

    return RequestSpans(app, tracer)


def _with_request() -> Marks:
    """Mark a line with the id of the request that it comes of."""
    request_id = get_contextvars().get(REQUEST_ID)
    return {} if request_id is None else {"request_id": request_id}
