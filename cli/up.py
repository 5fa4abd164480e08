"""`respool up`: everything on one machine, in one event loop, with its store and model as children."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import click
from msgspec import Struct
from rich.console import Console

from cli.archive import archive_of
from cli.demo import MODEL as DEMO_MODEL
from cli.demo import OLLAMA, demo_model, ollama_answers
from cli.embedded import embedded_store
from cli.opening import without_password
from cli.process import run_role, settings_of_environment, stop_on_signals, traced
from cli.roles.api import require_a_key, running_api
from cli.roles.projector import running_projector
from cli.roles.worker import run_worker
from cli.serving import bind
from consumers.stop import Stop
from core.durability import Durability
from core.errors import StoreError
from core.redis import REPLY_TIMEOUT_SECONDS, connect
from core.settings import Settings, SettingsError
from core.trouble import Trouble
from migrations.plan import required
from migrations.runner import Begun, CannotFold, Done, Event, Waiting, migrate
from projections.projector import SHARED_LOOP_ENTRIES

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)

_LOOK_EVERY_SECONDS: Final = 1.0
_PORT: Final = "18080"
_DEMO_SLOTS: Final = (
    4  # With WORKER_CONCURRENCY=auto, which comes later and to no more where nobody measured.
)


@click.command()
def up() -> None:
    """Run everything on this machine: store, API, worker and, without an UPSTREAM_URL, a model.

    \b
    Example: respool up
             UPSTREAM_URL=http://localhost:8000 WORKER_CONCURRENCY=8 respool up
    """
    settings = settings_of_environment(API_PORT=_PORT, LOG_LEVEL="warning")
    with traced(settings, "respool") as tracer:
        run_role(lambda: run_everything(settings, Console(stderr=False), tracer))


class _Started(Struct, frozen=True):
    """What a worker needs of the rest, once that is there."""

    redis_url: str
    upstream_url: str
    model: str | None
    api_url: str
    needs_key: bool


async def run_everything(
    settings: Settings, console: Console, tracer: "Tracer | None" = None
) -> None:
    """Start everything, serve until asked to stop, and leave nothing running."""
    if settings.redis_url is None and settings.durability is Durability.REPLICATED:
        raise SettingsError(
            "DURABILITY=replicated needs a Redis with a replica, in REDIS_URL: "
            "the store that `respool up` brings has none"
        )
    stop = Stop()
    stop_on_signals(stop)
    ready = asyncio.Event()
    async with AsyncExitStack() as stack:
        started = await stop.unless_asked(_start(stack, settings, console, ready.is_set, tracer))
        if started is not None:
            await _work(settings, console, started, stop, ready, tracer)
    console.print("stopped; started again, it has every job that it had")


async def _start(
    stack: AsyncExitStack,
    settings: Settings,
    console: Console,
    is_ready: Callable[[], bool],
    tracer: "Tracer | None",
) -> _Started:
    """Store, inference server and API, which run until the stack ends."""
    redis_url = settings.redis_url
    if redis_url is None:
        store = embedded_store(settings.respool_data_dir, settings.durability)
        redis_url = await stack.enter_async_context(store)
    await _migrate(redis_url, settings, console)
    await _require_a_key(redis_url, settings)
    if settings.redis_url is None:
        await stack.enter_async_context(_kept_migrated(redis_url, settings))
    await stack.enter_async_context(
        running_projector(settings, redis_url, batch_entries=SHARED_LOOP_ENTRIES)
    )
    console.print(f"store     {_where(settings, redis_url)}")
    upstream_url, model = await stack.enter_async_context(_upstream(settings))
    console.print(f"upstream  {upstream_url}" + (f" ({model})" if model else ""))
    api_url = await stack.enter_async_context(running_api(settings, redis_url, is_ready, tracer))
    return _Started(redis_url, upstream_url, model, api_url, settings.openai_api_key_required)


async def _work(
    settings: Settings,
    console: Console,
    started: _Started,
    stop: Stop,
    ready: asyncio.Event,
    tracer: "Tracer | None",
) -> None:
    announcing = asyncio.create_task(_announce(ready, console, started))
    try:
        await run_worker(settings, started.redis_url, started.upstream_url, stop, ready.set, tracer)
    finally:
        announcing.cancel()


async def _migrate(redis_url: str, settings: Settings, console: Console) -> None:
    """Bring the store up to this release. Views that cannot be folded keep no job from being run."""

    def told(event: Event) -> None:
        match event:
            case Waiting(holder):
                console.print(f"waiting   for {holder}, which migrates the store")
            case Begun(step) if step.entries:
                console.print(f"building  {step}", soft_wrap=True, highlight=False, markup=False)
            case Done(step):
                log.info("applied: %s", step.done())

    client = connect(redis_url)
    try:
        bounds = settings.bounds(REPLY_TIMEOUT_SECONDS)
        await migrate(client, told=told, bounds=bounds, archive=archive_of(settings))
    except CannotFold as error:
        log.error("lists and figures are not served: %s", error)
    finally:
        await client.aclose()


async def _require_a_key(redis_url: str, settings: Settings) -> None:
    """As the API does, before what takes longer is started. Raises SettingsError."""
    client = connect(redis_url)
    try:
        await require_a_key(settings, client)
    finally:
        await client.aclose()


@asynccontextmanager
async def _kept_migrated(redis_url: str, settings: Settings) -> AsyncIterator[None]:
    """Migrate a store of our own again, should it come back empty: nobody else would.

    What it had is gone, as the processes say that look for it (`core.tail`). One that was taken back to
    an earlier migration is left as it is.
    """
    client = connect(redis_url)
    trouble = Trouble(log, "the embedded store cannot be looked at")

    async def keep() -> None:
        while True:
            try:
                if any(step.number in {None, 1} for step in await required(client)):
                    await migrate(client, bounds=settings.bounds(REPLY_TIMEOUT_SECONDS))
                    log.error("the embedded store came back empty, and was made anew")
                trouble.is_over()
            except StoreError as error:
                trouble.is_there(error)
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    keeping = asyncio.create_task(keep())
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await client.aclose()


def _where(settings: Settings, redis_url: str) -> str:
    if settings.redis_url is not None:
        return without_password(redis_url)
    return f"{redis_url} (embedded, its data in {settings.respool_data_dir.resolve()})"


@asynccontextmanager
async def _upstream(settings: Settings) -> AsyncIterator[tuple[str, str | None]]:
    """The inference server's URL, and the name of a model of it if that is known."""
    if settings.upstream_url is not None:
        yield settings.upstream_url, "echo" if settings.upstream_url.startswith("echo:") else None
    elif ollama_answers():
        yield OLLAMA, None
    else:
        with bind("127.0.0.1", 0, "") as probe:
            port = probe.getsockname()[1]
        slots = settings.worker_concurrency or _DEMO_SLOTS
        async with demo_model(settings.respool_data_dir, port, slots) as url:
            yield url, DEMO_MODEL


async def _announce(ready: asyncio.Event, console: Console, started: _Started) -> None:
    await ready.wait()
    api_url, model = started.api_url, started.model
    key = '-H "Authorization: Bearer $OPENAI_API_KEY" ' if started.needs_key else ""
    body = (
        f'{{"model": "{model or "NAME"}", "request": '
        '{"messages": [{"role": "user", "content": "What is the capital of France?"}]}}'
    )
    console.print(f"API       {api_url} (docs at {api_url}/docs)")
    console.print("\nReady. Try this, and stop with Ctrl-C:\n")
    console.print(
        f"curl -s {api_url}/v1/jobs {key}-H 'Prefer: wait=30' -d '{body}'\n",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
