"""The commands that are a client: submit, show, watch, cancel, requeue; what they print and refuse."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import StartUp, Up
from tests.processes import RESPOOL, clean_environment
from tests.servers import free_port

SLOW = "echo://?tokens=1000&tokens_per_second=20"


def run(up: Up, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command against a running `up`."""
    return _run(str(up.http.base_url), *arguments, stdin=stdin)


def _run(url: str, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RESPOOL, *arguments],
        env=clean_environment({"RESPOOL_URL": url}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_prompt_is_submitted_watched_and_shown(start_up: StartUp) -> None:
    up = start_up().until_ready()
    watched = run(up, "submit", "--model", "echo", "--watch", "one two three")
    assert watched.returncode == 0
    assert "one two three" in watched.stdout
    for event in ("submitted", "claimed", "completed"):
        assert event in watched.stdout
    job = json.loads(run(up, "submit", "--model", "echo", "--json", "--wait", "20", "hi").stdout)
    assert job["status"] == "completed"
    shown = run(up, "show", job["id"]).stdout
    assert "completed" in shown
    assert "worker=" in shown
    result = json.loads(run(up, "show", "--result", job["id"]).stdout)
    assert result["choices"][0]["message"]["content"] == "hi"


def test_a_queue_is_paused_and_resumed(start_up: StartUp) -> None:
    up = start_up().until_ready()
    assert run(up, "pause", "default", "--reason", "moving").stdout == (
        "default is paused: 0 waiting, 0 scheduled, 0 running\n"
    )
    job = json.loads(run(up, "submit", "--model", "echo", "--json", "hi").stdout)
    assert json.loads(run(up, "resume", "default", "--json").stdout)["paused"] is False
    assert up.http.get(f"/v1/jobs/{job['id']}", params={"wait": 20}).json()["status"] == "completed"
    refused = run(up, "pause", "no such")
    assert refused.returncode == 1
    assert "takes 1 to 64 letters" in refused.stderr


def test_watch_as_json_has_every_event_and_every_token(start_up: StartUp) -> None:
    up = start_up("echo://?tokens=5&tokens_per_second=20").until_ready()
    job = json.loads(run(up, "submit", "--model", "echo", "--json", "word").stdout)
    lines = [json.loads(line) for line in run(up, "watch", "--json", job["id"]).stdout.splitlines()]
    assert "".join(line["text"] for line in lines if line["type"] == "token") == " ".join(
        ["word"] * 5
    )
    assert [line["type"] for line in lines if line["type"] != "token"] == [
        "submitted",
        "claimed",
        "completed",
    ]


def test_a_running_job_is_cancelled_and_requeued(start_up: StartUp) -> None:
    up = start_up(SLOW).until_ready()
    job = json.loads(run(up, "submit", "--model", "echo", "--json", "word").stdout)
    assert run(up, "cancel", job["id"]).returncode == 0
    ended = up.http.get(f"/v1/jobs/{job['id']}", params={"wait": 20}).json()
    assert ended["status"] == "cancelled"
    again = json.loads(run(up, "requeue", "--json", job["id"]).stdout)
    assert again["status"] in {"queued", "running"}


def test_a_whole_request_comes_from_a_file_or_from_stdin(start_up: StartUp, tmp_path: Path) -> None:
    up = start_up().until_ready()
    path = tmp_path / "request.json"
    path.write_text('{"prompt": "from a file"}')
    arguments = ("submit", "--model", "echo", "--kind", "completions", "--json", "--wait", "20")
    for source, stdin in ((str(path), None), ("-", '{"prompt": "from stdin"}')):
        done = run(up, *arguments, "--request", source, stdin=stdin)
        assert json.loads(done.stdout)["status"] == "completed"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "nope"), "there is no job nope"),
        (("submit", "--model", "gpt-17", "hi"), "served are: echo"),
        (("submit", "--model", "echo"), "either a PROMPT or --request"),
        (("submit", "--model", "echo", "--request", "/nowhere.json"), "/nowhere.json"),
        (("submit", "--model", "echo", "--metadata", "oops", "hi"), "KEY=VALUE"),
        (("submit", "--model", "echo", "--max-attempts", "0", "hi"), "max_attempts"),
        (("submit", "--model", "echo", "--delay", "nan", "hi"), "a number of seconds"),
        (("submit", "--model", "echo", "--idempotency-key", "é", "hi"), "printable ASCII"),
        (("show", "a?b=1"), "there is no job a?b=1"),
        (("show", ""), "a job's id is needed"),
        (("frobnicate",), "No such command"),
    ],
)
def test_what_cannot_be_is_one_message_and_a_failure(
    shared_up: Up, arguments: tuple[str, ...], says: str
) -> None:
    done = run(shared_up, *arguments)
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def shared_up(start_up: StartUp) -> Up:
    return start_up().until_ready()


def test_an_api_that_is_not_there_is_said_to_be_so() -> None:
    done = _run(f"http://127.0.0.1:{free_port()}", "show", "anything")
    assert done.returncode == 1
    assert "is `respool up` running?" in done.stderr


@pytest.mark.parametrize(
    "command",
    ["up", "api", "worker", "migrate", "submit", "show", "watch", "cancel", "requeue"],
)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    done = _run("http://127.0.0.1:1", command, "--help")
    assert done.returncode == 0
    assert "Example:" in done.stdout


def test_a_job_that_does_not_complete_is_a_failure_for_scripts(shared_up: Up) -> None:
    asked = ("submit", "--model", "echo", "--kind", "chat", "--request", "-")
    bad = '{"messages": ["no message"]}'
    for how in (("--wait", "20"), ("--watch",)):
        done = run(shared_up, *asked, *how, stdin=bad)
        assert done.returncode == 1
        assert "failed" in done.stdout


def test_what_looks_like_markup_is_shown_as_it_is(shared_up: Up) -> None:
    arguments = ("--metadata", "k=[/x][bold]", "--wait", "20")
    done = run(shared_up, "submit", "--model", "echo", *arguments, "hi")
    assert done.returncode == 0
    assert "[/x][bold]" in done.stdout


def test_watch_goes_on_when_the_api_was_stopped_and_started_again(start_up: StartUp) -> None:
    port = str(free_port())
    up = start_up(API_PORT=port).until_ready_on(port)
    job = up.submit_delayed("hello", delay_seconds=3)
    with subprocess.Popen(
        [RESPOOL, "watch", "--json", job["id"]],
        env=clean_environment({"RESPOOL_URL": f"http://127.0.0.1:{port}"}),
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        assert "submitted" in watching.stdout.readline()
        up.process.send(signal.SIGINT)
        assert up.process.wait() == 0
        start_up(API_PORT=port).until_ready_on(port)
        assert "completed" in watching.stdout.read()
        assert watching.wait(30) == 0
