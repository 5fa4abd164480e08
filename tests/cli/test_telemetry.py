"""What OpenTelemetry's variables come to, and log lines that name their trace."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import use_span

from cli.logs import configure_logging
from cli.telemetry import NowAndThen, check, is_wanted, with_trace
from core.settings import LogFormat, LogLevel, SettingsError

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "True"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "false"}, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_spans_are_exported_where_there_is_an_endpoint_that_is_not_switched_off(
    environment: dict[str, str], wanted: bool
) -> None:
    assert is_wanted(environment) is wanted


def test_a_protocol_for_traces_alone_counts_before_the_one_for_all() -> None:
    protocols = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    }
    check(ENDPOINT | protocols)
    with pytest.raises(SettingsError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL='grpc'.*http/protobuf"):
        check(ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_trouble_is_said_once_in_a_while() -> None:
    record = logging.LogRecord("otel", logging.ERROR, "", 0, "away", None, None)
    often, seldom = NowAndThen(every_seconds=0), NowAndThen(every_seconds=3_600)
    assert [often.filter(record) for _ in range(3)] == [True, True, True]
    assert [seldom.filter(record) for _ in range(3)] == [True, False, False]


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.usefixtures("logging_as_before")
def test_a_log_line_names_the_span_that_it_was_written_in(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(LogFormat.JSON, LogLevel.INFO, with_trace)
    log = logging.getLogger("test")
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("process")
    with use_span(span):
        log.info("within")
    log.info("without")
    within, without = map(_line, capsys.readouterr().err.splitlines())
    context = span.get_span_context()
    assert within["trace_id"] == f"{context.trace_id:032x}"
    assert within["span_id"] == f"{context.span_id:016x}"
    assert "trace_id" not in without


def _line(text: str) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(text)
    return line
