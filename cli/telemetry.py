"""Where spans go: to an OpenTelemetry collector, if there is one to send them to.

Set up by OpenTelemetry's own variables, read by its SDK. Without an endpoint nothing of it is imported.
"""

import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from core.settings import SettingsError
from core.tracing import OWN_TRACE_ID

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

DRAIN_SECONDS: Final = 3.0  # What a process that stops waits for a collector.
_SAY_EVERY_SECONDS: Final = 60.0
_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
_TRACES_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_DISABLED: Final = "OTEL_SDK_DISABLED"
# Where OpenTelemetry says, at every try, that it cannot send, or that it drops what it could not send.
_NOISY: Final = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._shared_internal",
)


@contextmanager
def exporting_spans(
    service: str, environment: Mapping[str, str] = os.environ
) -> Iterator["Tracer | None"]:
    """What records the spans of this process, called `service`; None if nobody is to get them.

    They are sent in the background, from a queue that drops what is too much. Once the block ends, what
    is left has DRAIN_SECONDS. Raises SettingsError.
    """
    if not is_wanted(environment):
        yield None
        return
    check(environment)
    provider = _provider(service)
    try:
        yield provider.get_tracer("respool", version("respool"))
    finally:
        _drain(provider)


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Say whether spans are to be exported."""
    return (
        _chosen(environment, _TRACES_ENDPOINT, _ENDPOINT)[1] != ""
        and _chosen(environment, _DISABLED)[1].lower() != "true"
        and _chosen(environment, _EXPORTER)[1] != "none"
    )


def check(environment: Mapping[str, str]) -> None:
    """Raises SettingsError for what Respool cannot do, one line for each variable."""
    wrong: list[str] = []
    name, endpoint = _chosen(environment, _TRACES_ENDPOINT, _ENDPOINT)
    if not endpoint.startswith(("http://", "https://")):
        wrong.append(f"{name}={endpoint!r}: takes a URL that begins with http:// or https://")
    name, protocol = _chosen(environment, _TRACES_PROTOCOL, _PROTOCOL)
    if protocol not in {"", "http/protobuf"}:
        wrong.append(
            f"{name}={protocol!r}: takes http/protobuf, which collectors have on port 4318"
        )
    name, exporter = _chosen(environment, _EXPORTER)
    if exporter not in {"", "otlp"}:
        wrong.append(f"{name}={exporter!r}: takes otlp or none")
    if wrong:
        raise SettingsError("\n".join(wrong))


def _chosen(environment: Mapping[str, str], *names: str) -> tuple[str, str]:
    """The first of these variables that says something, and what it says; else the last, and nothing."""
    values = [(name, environment.get(name, "").strip()) for name in names]
    return next((one for one in values if one[1]), values[-1])


def _provider(service: str) -> "TracerProvider":
    # What takes its time to import is imported here, for those who want it.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415

    class Ids(RandomIdGenerator):
        """Random ids, but for a root whose trace is known by other means."""

        def generate_trace_id(self) -> int:
            return OWN_TRACE_ID.get() or super().generate_trace_id()

    for name in _NOISY:
        logging.getLogger(name).addFilter(NowAndThen(_SAY_EVERY_SECONDS))
    ours = {
        "service.name": service,
        "service.version": version("respool"),
        "service.instance.id": str(uuid.uuid4()),
    }
    resource = Resource.create(ours).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, id_generator=Ids(), shutdown_on_exit=False)
    try:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        raise SettingsError(f"OTEL_BSP_*: {error}") from error
    return provider


def _drain(provider: "TracerProvider") -> None:
    """Send what is left, for DRAIN_SECONDS at most: the SDK itself would wait for half a minute."""
    draining = threading.Thread(target=provider.shutdown, name="spans-drain", daemon=True)
    draining.start()
    draining.join(DRAIN_SECONDS)


class NowAndThen(logging.Filter):
    """Lets one message through, then none for a while, whatever they say."""

    def __init__(self, every_seconds: float) -> None:
        super().__init__()
        self._every_seconds = every_seconds
        self._said_at = float("-inf")

    def filter(self, _: logging.LogRecord) -> bool:
        """Say whether this one is let through."""
        now = time.monotonic()
        if now - self._said_at < self._every_seconds:
            return False
        self._said_at = now
        return True


def with_trace(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mark a log line with the trace and the span that it was written in."""
    from opentelemetry.trace import get_current_span  # noqa: PLC0415

    span = get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = f"{span.trace_id:032x}"
        event["span_id"] = f"{span.span_id:016x}"
    return event
