"""What a process logs, one line a record."""

import json
import subprocess
import sys

PROGRAM = """
import logging
from structlog.contextvars import bind_contextvars
from cli.logs import configure_logging
from core.settings import LogFormat, LogLevel

configure_logging(LogFormat.{format}, LogLevel.INFO)
logging.getLogger("of.none").warning("before %s", "any")
bind_contextvars(request_id="req-7")
logging.getLogger("of.one").warning("during")
"""


def logged(log_format: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(format=log_format)],
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stderr.splitlines()


def test_what_is_logged_for_a_request_names_it() -> None:
    before, during = [json.loads(line) for line in logged("JSON")]
    assert (before["event"], before.get("request_id")) == ("before any", None)
    assert (during["event"], during["request_id"]) == ("during", "req-7")


def test_a_person_sees_the_request_too() -> None:
    before, during = logged("CONSOLE")
    assert "request_id" not in before
    assert "req-7" in during
