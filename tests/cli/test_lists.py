"""The commands that show the views, and those that act on all that a filter means."""

import json
import signal
import subprocess
import time
from typing import Any

from tests.cli.running import StartUp, Up
from tests.cli.test_client import SLOW, run
from tests.processes import RESPOOL, clean_environment


def until_listed(up: Up, **wanted: Any) -> list[dict[str, Any]]:
    """The jobs that are listed, once there are as many as `count`."""
    until = time.monotonic() + 20
    count = wanted.pop("count")
    while True:
        jobs: list[dict[str, Any]] = up.http.get("/v1/jobs", params=wanted).json()["jobs"]
        if len(jobs) == count:
            return jobs
        assert time.monotonic() < until, jobs
        time.sleep(0.02)


def test_jobs_queues_workers_and_usage_are_shown_as_tables(start_up: StartUp) -> None:
    up = start_up().until_ready()
    job = up.submit("one two three", prefer="wait=20")
    until_listed(up, status="completed", count=1)
    listed = run(up, "jobs", "--status", "completed")
    assert listed.returncode == 0
    assert job["id"] in listed.stdout
    assert json.loads(run(up, "jobs", "--json").stdout)["jobs"][0]["id"] == job["id"]
    assert run(up, "jobs", "--status", "failed").stdout.splitlines()[1:] == []
    assert "default" in run(up, "queues").stdout
    shown = run(up, "workers").stdout
    assert "0/4" in shown
    assert "1 completed" in shown
    assert "echo" in run(up, "usage").stdout
    more = run(up, "jobs", "--limit", "1")
    assert more.stderr.startswith("more: --cursor ")


def test_a_wrong_filter_is_said_without_a_trace(start_up: StartUp) -> None:
    up = start_up().until_ready()
    wrong = run(up, "jobs", "--status", "done")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("respool: status: takes some of scheduled, queued")


def test_a_list_is_watched_until_it_is_stopped(start_up: StartUp) -> None:
    up = start_up().until_ready()
    watching = subprocess.Popen(
        [RESPOOL, "queues", "--watch"],
        env=clean_environment({"RESPOOL_URL": str(up.http.base_url)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    heads = 0
    for line in watching.stdout:
        heads += line.startswith("queue")
        if heads == 2:
            break
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert errors.strip() == ""


def test_all_jobs_that_match_are_cancelled_and_requeued(start_up: StartUp) -> None:
    up = start_up(SLOW, WORKER_CONCURRENCY="1").until_ready()
    for _ in range(4):
        up.submit("slow")
    until_listed(up, status="queued", count=3)
    dry = run(up, "cancel", "--status", "queued", "--dry-run")
    assert (dry.returncode, len(dry.stdout.split())) == (0, 3)
    assert "3 jobs would be meant" in dry.stderr
    asked = run(up, "cancel", "--status", "queued", stdin="n\n")
    assert (asked.returncode, "cancel 3 jobs?" in asked.stderr) == (130, True)
    done = run(up, "cancel", "--status", "queued", "--yes")
    assert (done.returncode, done.stderr) == (0, "cancel: 3 jobs, 0 refused\n")
    until_listed(up, status="cancelled", count=3)
    again = json.loads(run(up, "requeue", "--status", "cancelled", "--yes", "--json").stdout)
    assert (again["done"], again["refused"]) == (3, [])
    until_listed(up, status="queued", count=3)


def test_many_jobs_are_never_meant_by_accident(start_up: StartUp) -> None:
    up = start_up().until_ready()
    nothing = run(up, "cancel")
    assert nothing.returncode == 2
    assert "give a job's id, a filter such as --status, or --all" in nothing.stderr
    both = run(up, "requeue", "06bq3w8m5t1v0zyh200", "--all")
    assert both.returncode == 2
