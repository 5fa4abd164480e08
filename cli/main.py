"""The `respool` command: one subcommand for each role, and a client over HTTP."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from cli.bulk import cancel, requeue
from cli.client import ClientError, json_option
from cli.demo import DemoModelError
from cli.embedded import DataDirError
from cli.firehose import events
from cli.jobs import show, submit
from cli.keys import keys
from cli.lists import jobs, queues, usage, workers
from cli.logs import configure_logging
from cli.loop import run
from cli.migrate import Asked
from cli.migrate import migrate as run_migrate
from cli.opening import without_password
from cli.queues import pause, resume
from cli.replay import replay
from cli.roles import run_worker, running_api, running_projector, stop_on_signals
from cli.serving import PortTaken
from cli.telemetry import exporting_spans, with_trace
from cli.up import up as run_up
from cli.watch import watch
from consumers.worker import Stop
from core.errors import StoreError
from core.redis import REPLY_TIMEOUT_SECONDS, connect
from core.settings import Settings, SettingsError, read_settings

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)

UP_PORT = "18080"

# What a user can mend: these end the program with their message alone.
_EXPECTED = (SettingsError, StoreError, PortTaken, DataDirError, DemoModelError, ClientError)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="respool")
def cli() -> None:
    """Durable job execution for self-hosted LLM inference.

    Roles: up (all of it on one machine), api, worker, projector, migrate; they read their settings from the
    environment. `keys` and `replay` work on the store itself. The other commands are a client of the HTTP
    API, and send it OPENAI_API_KEY, if that is set, as their key.
    """


def main() -> None:
    """Run the command line; what a user can mend is one message on standard error and exit status 1."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except _EXPECTED as error:
        click.echo(f"respool: {error}", err=True)
        sys.exit(1)
    except Exception:
        log.exception("this should not have happened; please report it")
        sys.exit(70)  # EX_SOFTWARE of sysexits.h.


def _settings(**defaults: str) -> Settings:
    settings = read_settings(defaults | {k: v for k, v in os.environ.items() if v.strip()})
    configure_logging(settings.log_format, settings.log_level)
    return settings


@contextmanager
def _traced(settings: Settings, service: str) -> Iterator["Tracer | None"]:
    """What records this process's spans, if somebody wants them; then its log names them, too."""
    with exporting_spans(service) as tracer:
        if tracer is not None:
            configure_logging(settings.log_format, settings.log_level, with_trace)
        yield tracer


def _run(role: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        run(role())
    except BaseExceptionGroup as group:
        raise _first_of(group) from group


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of a task group that a user can mend, if there is one among them."""
    for error in group.exceptions:
        found = _first_of(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, _EXPECTED):
            return found
    return group


def _redis_url(settings: Settings, role: str) -> str:
    if settings.redis_url is None:
        message = f"`respool {role}` needs REDIS_URL, such as redis://localhost:6379/0"
        raise SettingsError(f"{message}; `respool up` brings a store of its own")
    return settings.redis_url


@cli.command()
def up() -> None:
    """Run everything on this machine: store, API, worker and, without an UPSTREAM_URL, a model.

    \b
    Example: respool up
             UPSTREAM_URL=http://localhost:8000 WORKER_CONCURRENCY=8 respool up
    """
    settings = _settings(API_PORT=UP_PORT, LOG_LEVEL="warning")
    with _traced(settings, "respool") as tracer:
        _run(lambda: run_up(settings, Console(stderr=False), tracer))


@cli.command()
def api() -> None:
    """Run an API, on API_HOST and API_PORT.

    DURABILITY says when a job is accepted: once Redis has it (everysec), has synced it to disk
    (always), or a replica has too (replicated).

    \b
    Example: REDIS_URL=redis://localhost:6379/0 respool api
    """
    settings = _settings()
    redis_url = _redis_url(settings, "api")

    async def serve() -> None:
        stop = Stop()
        stop_on_signals(stop)
        async with AsyncExitStack() as stack:
            starting = stack.enter_async_context(running_api(settings, redis_url, tracer=tracer))
            url = await stop.unless_asked(starting)
            if url is not None:
                click.echo(f"serving {url}", err=True)
                await stop.draining.wait()

    with _traced(settings, "respool-api") as tracer:
        _run(serve)


@cli.command()
def worker() -> None:
    """Run a worker, which sends jobs to the inference server at UPSTREAM_URL.

    SIGTERM finishes what fits into SHUTDOWN_GRACE_SECONDS and gives the rest back; a second one
    gives everything back now.

    \b
    Example: REDIS_URL=redis://localhost:6379/0 UPSTREAM_URL=http://localhost:11434 respool worker
    """
    settings = _settings()
    redis_url = _redis_url(settings, "worker")
    upstream_url = settings.upstream_url
    if upstream_url is None:
        raise SettingsError("`respool worker` needs UPSTREAM_URL, such as http://localhost:11434")

    async def work() -> None:
        stop = Stop()
        stop_on_signals(stop)
        await run_worker(settings, redis_url, upstream_url, stop, tracer=tracer)

    with _traced(settings, "respool-worker") as tracer:
        _run(work)


@cli.command()
def projector() -> None:
    """Keep the views, which lists and queue figures come from, up with the log.

    Any number may run: one works, and the others take over when it does not.

    \b
    Example: REDIS_URL=redis://localhost:6379/0 respool projector
    """
    settings = _settings()
    redis_url = _redis_url(settings, "projector")

    async def project() -> None:
        stop = Stop()
        stop_on_signals(stop)
        async with AsyncExitStack() as stack:
            starting = stack.enter_async_context(running_projector(settings, redis_url))
            projecting = await stop.unless_asked(starting)
            if projecting is not None:
                await stop.unless_asked(_ended(projecting))

    _run(project)


async def _ended(task: asyncio.Task[None]) -> None:
    await task


@cli.command()
@click.option("--plan", "plan_only", is_flag=True, help="Only say what would be done.")
@click.option("--to", type=click.IntRange(min=0), help="Undo what comes after this migration.")
@click.option("--shards", default=1, show_default=True, help="For a new store: how many shards.")
@click.option("--park", is_flag=True, help="Leave out of the views what cannot be folded.")
@json_option
def migrate(plan_only: bool, to: int | None, shards: int, park: bool, as_json: bool) -> None:
    """Apply to the store at REDIS_URL what this release needs of it.

    Jobs and older releases go on meanwhile. Stopped at any moment, it is run again and goes on where it
    was; of several at the same time one works, and the others wait for it. --to takes the store back, so
    that an older release starts on it again.

    \b
    Example: REDIS_URL=redis://localhost:6379/0 respool migrate --plan
             REDIS_URL=redis://localhost:6379/0 respool migrate --to 1
    """
    settings = _settings()
    redis_url = _redis_url(settings, "migrate")
    asked = Asked(plan_only, to, shards, as_json, park)

    async def apply() -> None:
        stop = Stop()
        stop_on_signals(stop)
        client = connect(redis_url)
        try:
            bounds = settings.bounds(REPLY_TIMEOUT_SECONDS)
            if await stop.unless_asked(run_migrate(client, asked, bounds)) is None:
                raise StoreError("stopped; run it again, and it goes on where it was")
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--shards") from error
        except StoreError as error:
            raise type(error)(f"{error} (REDIS_URL is {without_password(redis_url)})") from error
        finally:
            await client.aclose()

    _run(apply)


for command in (
    *(submit, show, watch, events, cancel, requeue, pause, resume),
    *(jobs, queues, workers, usage, replay, keys),
):
    cli.add_command(command)
