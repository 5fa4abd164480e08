"""An OpenTelemetry collector on the loopback, as far as a test needs one: OTLP over HTTP, in protobuf."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

PATIENCE_SECONDS = 20.0


class Span(Struct, frozen=True):
    """A span as it was exported; ids in hexadecimal, times in nanoseconds since 1970."""

    name: str
    service: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str  # Empty for a root.
    start: int
    end: int
    attributes: dict[str, Any]
    is_error: bool


class Collector:
    """What was exported so far, in `spans`."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Span] = []
        self.requests = 0
        self.silent = threading.Event()  # Set: takes requests and answers none.
        self._changed = threading.Condition()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._changed:
            self.requests += 1
            self.spans += _spans_in(request)
            self._changed.notify_all()

    def until(self, count: int, is_one: Callable[[Span], bool] = lambda _: True) -> list[Span]:
        """Wait for so many spans; those that there are then, in the order in which they began."""
        until = time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            while True:
                found = sorted(filter(is_one, self.spans), key=lambda span: span.start)
                if len(found) >= count:
                    return found
                left = until - time.monotonic()
                assert left > 0, f"{len(found)} of {count}: {[span.name for span in self.spans]}"
                self._changed.wait(left)

    def trace(self, trace_id: str, count: int) -> list[Span]:
        """Wait until a trace has so many spans."""
        return self.until(count, lambda span: span.trace_id == trace_id)

    def of_job(self, job_id: str, count: int) -> list[Span]:
        """Wait until a job has so many spans."""
        return self.until(count, lambda span: span.attributes.get("respool.job.id") == job_id)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens until the block ends."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces", self.path
            assert self.headers["Content-Type"] == "application/x-protobuf"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if collector.silent.is_set():
                collector.requests += 1
                closing.wait()
                return
            collector.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    closing = threading.Event()
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    serving = threading.Thread(target=listening.serve_forever)
    serving.start()
    collector.url = f"http://127.0.0.1:{listening.server_port}"
    try:
        yield collector
    finally:
        closing.set()
        listening.shutdown()
        listening.server_close()
        serving.join()


def _spans_in(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    name=span.name,
                    service=service,
                    kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    attributes=_attributes(span.attributes),
                    is_error=span.status.code == span.status.STATUS_CODE_ERROR,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, str(kind))
