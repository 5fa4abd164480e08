"""`respool events`: what happens, as it happens."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cli.running import StartUp, Up
from tests.cli.test_client import run
from tests.processes import RESPOOL, clean_environment


@contextmanager
def events(up: Up, *options: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [RESPOOL, "events", *options],
        env=clean_environment({"RESPOOL_URL": str(up.http.base_url)}),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_events_are_shown_from_the_past_on_and_as_they_come(start_up: StartUp) -> None:
    up = start_up().until_ready()
    past = up.submit("one two three", prefer="wait=20")
    with events(up, "--from", "0-0", "--type", "submitted,completed", "--json") as process:
        assert process.stdout is not None
        lines = map(json.loads, process.stdout)
        assert [(line["type"], line["job_id"]) for line in (next(lines), next(lines))] == [
            ("submitted", past["id"]),
            ("completed", past["id"]),
        ]
        live = up.submit("one two three")
        assert next(lines)["job_id"] == live["id"]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def test_a_line_names_the_job_and_what_happened(start_up: StartUp) -> None:
    up = start_up().until_ready()
    job = up.submit("one two three", prefer="wait=20")
    with events(up, "--from", "0-0", "--queue", "default") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
    assert all(job["id"] in line for line in lines)
    assert [line.split()[2] for line in lines] == ["submitted", "claimed", "completed"]
    assert "one two three" not in "".join(lines)


def test_a_type_that_there_is_not_is_said_without_a_trace(start_up: StartUp) -> None:
    up = start_up().until_ready()
    wrong = run(up, "events", "--type", "done")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("respool: type: takes some of submitted, queued")
