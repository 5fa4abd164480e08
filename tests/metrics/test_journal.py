"""A line in the log for each change of a job: the guide's fields, and nothing of what people wrote."""

import json
import re
import signal
from typing import Any

import pytest

from cli.watching import watching
from core.settings import LogFormat, Settings
from core.store import EventStore
from tests.given import a_job
from tests.processes import Process
from tests.tracing.conftest import Site

TRACE = "0af7651916cd43dd8448eb211c80319c"
SECRET = "what a person wrote"
BODY = {"model": "echo", "messages": [{"role": "user", "content": SECRET}]}
_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def lines_of(*processes: Process) -> list[dict[str, Any]]:
    """Their lines of jobs, in the order of time."""
    said = [line for one in processes for line in one.output.splitlines() if line[0] == "{"]
    of_jobs = [line for line in map(json.loads, said) if line["logger"] == "respool.jobs"]
    return sorted(of_jobs, key=lambda line: line["timestamp"])


def a_life(site: Site, **environment: str) -> tuple[str, Process, Process]:
    """A job that was asked for and answered, by processes that have said so and stopped."""
    json_lines = {"LOG_FORMAT": "json"} | environment
    api, worker = site.api(**json_lines), site.worker(**json_lines)
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    answer = site.http.post("/v1/chat/completions", json=BODY, headers=headers)
    for process in (worker, api):
        process.send(signal.SIGTERM)
        process.wait()
    return answer.headers["x-job-id"], api, worker


def test_each_transition_is_one_line_of_the_process_that_wrote_it(site: Site) -> None:
    job_id, api, worker = a_life(site)
    assert [line["event"] for line in lines_of(api)] == ["job submitted"]
    assert [line["event"] for line in lines_of(worker)] == ["job claimed", "job completed"]
    for line in lines_of(api, worker):
        assert (line["job_id"], line["model"], line["queue"]) == (job_id, "echo", "default")
        assert (line["level"], line["trace_id"]) == ("info", TRACE)
        assert isinstance(line["queue_size"], int)
        assert _TIME.fullmatch(line["timestamp"])
    assert SECRET not in api.output + worker.output


async def test_a_role_that_stops_writes_what_is_left(
    store: EventStore, capsys: pytest.CaptureFixture[str]
) -> None:
    async with watching(store, Settings(log_format=LogFormat.JSON)):
        job_id = await a_job(store)
    [line] = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["job_id"], line["queue_size"]) == ("job submitted", job_id, 1)


def test_what_people_wrote_is_logged_where_it_is_asked_for(site: Site) -> None:
    _, api, worker = a_life(site, LOG_CONTENT="true")
    assert SECRET in api.output
    assert "result" in lines_of(worker)[-1]


def test_of_a_quiet_process_only_trouble_is_heard(site: Site) -> None:
    site.api(LOG_FORMAT="json", LOG_LEVEL="warning")
    worker = site.worker("echo://?latency_ms=60000", LOG_FORMAT="json", LOG_LEVEL="warning")
    site.submit(wait=10, max_attempts=1, timeout_seconds=1)
    worker.send(signal.SIGTERM)
    worker.wait()
    [failed] = lines_of(worker)
    assert (failed["event"], failed["level"], failed["error"]) == (
        *("job failed", "warning"),
        "timeout",
    )


@pytest.mark.parametrize("value", ["maybe", "2"])
def test_a_wish_for_contents_that_is_none_is_refused(site: Site, value: str) -> None:
    process = site._start("api", LOG_CONTENT=value)
    assert process.wait() == 1
    assert "LOG_CONTENT" in process.output
