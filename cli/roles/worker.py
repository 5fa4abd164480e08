"""`respool worker`: a worker, put together with its store and its inference server."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import click

from cli.calibrate.applied import applied
from cli.metrics import worker_exposition
from cli.opening import open_store
from cli.process import (
    host_name,
    process_name,
    required_redis_url,
    run_role,
    settings_of_environment,
    stop_on_signals,
    traced,
)
from cli.serving import bind, serving
from cli.watching import marks_of, watching
from consumers.execute import LossLimits
from consumers.gpu import gpus, watching_gpus
from consumers.health import create_health_app
from consumers.stop import Stop
from consumers.upstream.base import Limits, Upstream, UpstreamError
from consumers.upstream.connect import connect as connect_upstream
from consumers.worker import Identity, Worker
from core.bells import Bells
from core.events import Gpu
from core.redis import connect
from core.settings import Settings, SettingsError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from consumers.spans import WorkerSpans

log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.5


@click.command()
def worker() -> None:
    """Run a worker, which sends jobs to the inference server at UPSTREAM_URL.

    SIGTERM finishes what fits into SHUTDOWN_GRACE_SECONDS and gives the rest back; a second one
    gives everything back now.

    \b
    Example: REDIS_URL=redis://localhost:6379/0 UPSTREAM_URL=http://localhost:11434 respool worker
    """
    settings = settings_of_environment()
    redis_url = required_redis_url(settings, "worker")
    upstream_url = settings.upstream_url
    if upstream_url is None:
        raise SettingsError("`respool worker` needs UPSTREAM_URL, such as http://localhost:11434")

    async def work() -> None:
        stop = Stop()
        stop_on_signals(stop)
        await run_worker(settings, redis_url, upstream_url, stop, tracer=tracer)

    with traced(settings, "respool-worker") as tracer:
        run_role(work)


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
    identity = _identity(settings, upstream.address)
    spans = spans_of(tracer, identity, upstream)
    figures = await stack.enter_async_context(watching(store, settings, *marks_of(tracer)))
    memory = stack.enter_context(watching_gpus()) if identity.gpus else tuple
    worker = Worker(
        identity, store, lease_client, bells, upstream, limits, spans, figures.waited, memory
    )
    health = create_health_app(worker, worker_exposition(store, figures, worker).text)
    await stack.enter_async_context(serving(health, listening))
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


def _identity(settings: Settings, upstream: str) -> Identity:
    devices = gpus()
    return Identity(
        name=process_name(),
        host=host_name(),
        concurrency=_concurrency(settings, upstream, devices),
        queues=settings.worker_queues,
        lease_seconds=settings.lease_seconds,
        grace_seconds=settings.shutdown_grace_seconds,
        gpus=devices,
    )


def _concurrency(settings: Settings, upstream: str, devices: tuple[Gpu, ...]) -> int:
    """How many jobs at once; what `auto` comes to is said."""
    if settings.worker_concurrency is not None:
        return settings.worker_concurrency
    found = applied(settings.respool_data_dir, upstream, devices)
    if found.is_measured:
        log.info("WORKER_CONCURRENCY=auto is %d: %s", found.concurrency, found.why)
    else:
        log.warning(
            "WORKER_CONCURRENCY=auto is %d, which nobody has measured: %s. Measure it: respool calibrate",
            found.concurrency,
            found.why,
        )
    return found.concurrency


def spans_of(
    tracer: "Tracer | None", identity: Identity, upstream: Upstream
) -> "WorkerSpans | None":
    """What records a worker's attempts; None if nobody is to get that."""
    if tracer is None:
        return None
    from consumers.spans import WorkerSpans  # noqa: PLC0415 - OpenTelemetry is imported if it is wanted.

    return WorkerSpans(tracer, identity.name, upstream)
