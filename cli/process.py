"""What every command that works on the store itself begins with: settings, logs, traces, a loop."""

import asyncio
import os
import platform
import secrets
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cli.logs import configure_logging
from cli.loop import run
from cli.telemetry import exporting_spans, with_trace
from consumers.stop import Stop
from core.errors import Mendable
from core.settings import Settings, SettingsError, read_settings

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


def settings_of_environment(**defaults: str) -> Settings:
    """The settings, by which logs are written from now on. Raises SettingsError."""
    settings = read_settings(defaults | {k: v for k, v in os.environ.items() if v.strip()})
    configure_logging(settings.log_format, settings.log_level)
    return settings


def host_name() -> str:
    """What this machine calls itself."""
    return platform.node() or "localhost"


def process_name() -> str:
    """A name that no other process has, now or later."""
    return f"{host_name()}-{os.getpid()}-{secrets.token_hex(3)}"


def required_redis_url(settings: Settings, role: str) -> str:
    """REDIS_URL, which `role` cannot do without. Raises SettingsError."""
    if settings.redis_url is None:
        message = f"`respool {role}` needs REDIS_URL, such as redis://localhost:6379/0"
        raise SettingsError(f"{message}; `respool up` brings a store of its own")
    return settings.redis_url


def stop_on_signals(stop: Stop) -> None:
    """SIGTERM and SIGINT ask to stop: the first to drain, the second to do it now."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.ask)


@contextmanager
def traced(settings: Settings, service: str) -> Iterator["Tracer | None"]:
    """What records this process's spans, if somebody wants them; then its log names them, too."""
    with exporting_spans(service) as tracer:
        if tracer is not None:
            configure_logging(settings.log_format, settings.log_level, with_trace)
        yield tracer


def run_role(role: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a role to its end. Of several errors at once, the one that a user can mend is raised."""
    try:
        run(role())
    except BaseExceptionGroup as group:
        raise _first_of(group) from group


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of a task group that a user can mend, if there is one among them."""
    for error in group.exceptions:
        found = _first_of(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, Mendable):
            return found
    return group
