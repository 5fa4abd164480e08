"""`respool up`, as a person would use and abuse it: started, killed, started again, stopped."""

import json
import shutil
import signal
import socket
import subprocess
import time

import pytest
import redis

from tests.cli.running import StartUp


def test_a_job_is_answered_and_its_log_tells_the_story(start_up: StartUp) -> None:
    up = start_up().until_ready()
    job = up.submit("one two three", prefer="wait=20")
    assert job["status"] == "completed"
    assert up.events(job) == ["submitted", "claimed", "completed"]
    result = up.http.get(f"/v1/jobs/{job['id']}/result").json()
    assert result["choices"][0]["message"]["content"] == "one two three"
    assert "curl" in up.process.output


def test_after_sigkill_of_everything_every_job_is_there_and_finished_once(
    start_up: StartUp,
) -> None:
    up = start_up("echo://?tokens=200&tokens_per_second=20").until_ready()
    jobs = [up.submit(f"job number {n}") for n in range(30)]
    while "claimed" not in up.events(jobs[0]):
        time.sleep(0.02)
    up.kill_everything()
    up = start_up().until_ready()
    for job in jobs:
        ended = up.http.get(f"/v1/jobs/{job['id']}", params={"wait": 50}).json()
        assert ended["status"] == "completed"
        assert up.events(job).count("completed") == 1
    assert up.events(jobs[0]) == ["submitted", "claimed", "attempt_lost", "claimed", "completed"]


def test_with_always_the_store_syncs_before_it_answers(start_up: StartUp) -> None:
    up = start_up(DURABILITY="always").until_ready()
    assert up.submit("one", prefer="wait=20")["status"] == "completed"
    port = json.loads((up.data_dir / "store.json").read_bytes())["port"]
    with redis.Redis(port=port) as client:
        assert client.config_get("appendfsync") == {"appendfsync": "always"}
        assert client.exists("respool:{0}:synced")  # It was asked, too.


def test_a_store_that_survived_its_owner_is_taken_over(start_up: StartUp) -> None:
    up = start_up().until_ready()
    job = up.submit("hello", prefer="wait=20")
    survivor = up.store_pid()
    up.process.kill()
    up = start_up().until_ready()
    assert up.store_pid() != survivor
    assert up.http.get(f"/v1/jobs/{job['id']}").json()["status"] == "completed"


def test_a_store_that_dies_is_started_again_with_what_it_had(start_up: StartUp) -> None:
    up = start_up().until_ready()
    job = up.submit("hello", prefer="wait=20")
    subprocess.run(["kill", "-9", str(up.store_pid())], check=True)
    until = time.monotonic() + 20
    while (response := up.http.get(f"/v1/jobs/{job['id']}")).status_code == 503:
        assert response.json()["error"]["code"] == "store_unavailable"
        assert time.monotonic() < until
    assert response.json()["status"] == "completed"
    assert up.submit("again", prefer="wait=20")["status"] == "completed"


def test_ctrl_c_stops_everything_and_a_new_start_has_every_job(start_up: StartUp) -> None:
    up = start_up().until_ready()
    job = up.submit("hello", prefer="wait=20")
    store = up.store_pid()
    up.process.send(signal.SIGINT)
    assert up.process.wait() == 0
    assert subprocess.run(["kill", "-0", str(store)], check=False).returncode != 0
    assert "Traceback" not in up.process.output
    up = start_up().until_ready()
    assert up.http.get(f"/v1/jobs/{job['id']}").json() == job


def test_two_on_one_data_directory_would_ruin_it(start_up: StartUp) -> None:
    start_up().until_ready()
    second = start_up()
    assert second.process.wait() == 1
    assert "another `respool up`" in second.process.output


def test_a_taken_port_is_named(start_up: StartUp) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        up = start_up(API_PORT=port)
        assert up.process.wait() == 1
    assert f"API_PORT={port}" in up.process.output
    assert "Traceback" not in up.process.output


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("LEASE_SECONDS", "soon", "takes a whole number"),
        ("UPSTREAM_URL", "echo://?pace=3", "pace"),
        ("UPSTREAM_KIND", "vllm", "takes one of openai, ollama, echo"),
        ("REDIS_URL", "http://localhost", "REDIS_URL"),
        ("RESPOOL_DATA_DIR", "/dev/null/data", "RESPOOL_DATA_DIR"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_takes(
    start_up: StartUp, variable: str, value: str, says: str
) -> None:
    up = start_up(**{variable: value} if variable != "UPSTREAM_URL" else {"upstream_url": value})
    assert up.process.wait() == 1
    assert variable in up.process.output
    assert says in up.process.output
    assert "Traceback" not in up.process.output


def test_a_store_that_was_left_while_it_was_starting_is_found_too(start_up: StartUp) -> None:
    first = start_up()
    while not (first.data_dir / "store.json").exists():
        time.sleep(0.001)
    first.process.kill()
    second = start_up().until_ready()
    assert second.submit("hello", prefer="wait=20")["status"] == "completed"
    ours = str(second.data_dir.resolve())
    running = subprocess.run(["pgrep", "-f", f"dir {ours}"], capture_output=True, check=False)
    assert len(running.stdout.split()) <= 1


def test_a_store_that_was_restarted_and_then_left_is_found_too(start_up: StartUp) -> None:
    up = start_up().until_ready()
    before = up.store_pid()
    subprocess.run(["kill", "-9", str(before)], check=True)
    up.submit_until_accepted("hello")
    assert up.store_pid() != before
    up.process.kill()
    up = start_up().until_ready()
    assert up.submit("again", prefer="wait=20")["status"] == "completed"


def test_a_store_of_its_own_that_comes_back_empty_is_made_anew_and_the_loss_is_said(
    start_up: StartUp,
) -> None:
    up = start_up().until_ready()
    job = up.submit("hello", prefer="wait=20")
    while up.http.get(f"/v1/jobs/{job['id']}").json()["status"] != "completed":
        time.sleep(0.02)
    time.sleep(1.5)  # It looks once a second, and has seen the job by now.
    store = up.store_pid()
    shutil.rmtree(up.data_dir)
    subprocess.run(["kill", "-9", str(store)], check=True)
    until = time.monotonic() + 30
    while up.http.get(f"/v1/jobs/{job['id']}").status_code != 404:
        assert time.monotonic() < until, up.process.output
        time.sleep(0.05)
    up.until_ready()
    while not (note := up.http.get("/readyz").json().get("note")):
        assert time.monotonic() < until, up.process.output  # It looks once a second.
        time.sleep(0.05)
    assert "emptied" in note or "another one than before" in note  # As it looked before or after.
    assert up.submit("again", prefer="wait=20")["status"] == "completed"
    assert up.store_pid() != store  # The next `up` would find it, should this one be killed.
    assert "came back empty, and was made anew" in up.process.output
    assert "Traceback" not in up.process.output
