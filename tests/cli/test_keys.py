"""`respool keys`, and a `respool up` that requires them."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import StartUp, Up
from tests.processes import RESPOOL, clean_environment

REQUIRED = {"OPENAI_API_KEY_REQUIRED": "true"}


def respool(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RESPOOL, *arguments],
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def keys(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return respool("keys", *arguments, RESPOOL_DATA_DIR=str(data_dir))


def client(up: Up, secret: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return respool(*arguments, RESPOOL_URL=str(up.http.base_url), OPENAI_API_KEY=secret)


def secret_of(made: subprocess.CompletedProcess[str]) -> str:
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_up_that_requires_a_key_and_has_none_does_not_start(start_up: StartUp) -> None:
    up = start_up(**REQUIRED)
    assert up.process.wait() == 1
    assert "set OPENAI_API_KEY" in up.process.output
    assert "respool keys make" in up.process.output
    assert "Traceback" not in up.process.output


def test_a_key_that_is_over_is_none(start_up: StartUp, tmp_path: Path) -> None:
    data = tmp_path / "data"
    secret_of(keys(data, "make", "short", "--expires-in", "0s"))
    secret_of(keys(data, "make", "gone"))
    assert keys(data, "revoke", "gone").returncode == 0
    assert start_up(**REQUIRED).process.wait() == 1


def test_a_key_is_made_before_up_first_starts_and_used_by_the_clients_commands(
    start_up: StartUp, tmp_path: Path
) -> None:
    secret = secret_of(keys(tmp_path / "data", "make", "mine", "--tenant", "team"))
    up = start_up(**REQUIRED).until_ready()
    refused = respool("jobs", RESPOOL_URL=str(up.http.base_url))
    assert refused.returncode == 1
    assert "401 missing_api_key" in refused.stderr
    job = json.loads(
        client(up, secret, "submit", "--model", "echo", "--json", "--wait", "20", "hi").stdout
    )
    assert (job["tenant"], job["status"]) == ("team", "completed")
    watched = client(up, secret, "watch", job["id"])
    assert (watched.returncode, watched.stderr) == (0, "")
    paused = client(up, secret, "pause", "default")
    assert "403 insufficient_scope" in paused.stderr
    unsendable = client(up, "schlüssel", "jobs")
    assert unsendable.returncode == 1
    assert "OPENAI_API_KEY takes printable ASCII" in unsendable.stderr
    assert secret not in up.process.output + (tmp_path / "data" / "store.log").read_text()


def test_the_variables_key_is_the_operators(start_up: StartUp) -> None:
    up = start_up(**REQUIRED, OPENAI_API_KEY="of+the/operator=").until_ready()
    assert "OPENAI_API_KEY has fewer than 20 characters" in up.process.output
    assert "of+the/operator=" not in up.process.output
    paused = client(up, "of+the/operator=", "pause", "default")
    assert "default is paused" in paused.stdout
    [queue] = json.loads(client(up, "of+the/operator=", "queues", "--json").stdout)["queues"]
    assert queue["paused"]


def test_keys_are_rotated_and_revoked_while_up_runs(start_up: StartUp, tmp_path: Path) -> None:
    data = tmp_path / "data"
    up = start_up(**REQUIRED, OPENAI_API_KEY="operator").until_ready()
    old = secret_of(keys(data, "make", "mine"))
    assert client(up, old, "jobs").returncode == 0
    new = secret_of(keys(data, "rotate", "mine", "--grace", "1h"))
    assert [client(up, one, "jobs").returncode for one in (old, new)] == [0, 0]
    newest = secret_of(keys(data, "rotate", "mine", "--grace", "0s"))
    assert [client(up, one, "jobs").returncode for one in (old, new, newest)] == [1, 1, 0]
    assert keys(data, "revoke", "mine").stdout.startswith("revoked  mine (key_")
    assert client(up, newest, "jobs").returncode == 1
    assert keys(data, "revoke", "mine").returncode == 0
    again = keys(data, "rotate", "mine")
    assert again.returncode == 1
    assert "the key 'mine' is revoked; make another one" in again.stderr


def test_keys_are_listed_and_shown_with_who_did_what_and_without_a_secret(tmp_path: Path) -> None:
    data = tmp_path / "data"
    limited = ("--requests-per-minute", "60", "--tokens-per-minute", "9000", "--streams", "2")
    made = json.loads(
        keys(data, "make", "a", "--tenant", "t", "--scope", "read", *limited, "--json").stdout
    )
    everybodys = keys(data, "make", "b", "--all-tenants", "--expires-in", "90d")
    assert "sees everybody's jobs" in everybodys.stderr
    listed = keys(data, "list")
    assert "requests_per_minute=60 tokens_per_minute=9000 streams=2" in listed.stdout
    assert "default (sees all)" in listed.stdout
    keys(data, "revoke", "a")
    assert [key["name"] for key in json.loads(keys(data, "list", "--json").stdout)["keys"]] == ["b"]
    [first, second] = json.loads(keys(data, "list", "--all", "--json").stdout)["keys"]
    assert (first["status"], first["scopes"], first["tenant"]) == ("revoked", ["read"], "t")
    assert second["expires_at"] > second["made_at"]
    shown = keys(data, "show", made["id"])
    assert "revoked by" in shown.stdout
    assert json.loads(keys(data, "show", "a", "--json").stdout) == first
    assert [change["what"] for change in first["history"]] == ["made", "revoked"]
    everything = listed.stdout + shown.stdout + json.dumps([first, second])
    for secret in (made["secret"], secret_of(everybodys)):
        assert secret not in everything


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("make", "two words"), "takes 1 to 64 of A-Z"),
        (("make", "operator"), "take another one"),
        (("make", "x", "--tenant", "a:b"), "takes 1 to 64 of A-Z"),
        (("make", "x", "--scope", "dream"), "is not one of 'submit', 'read', 'operate'"),
        (("make", "x", "--expires-in", "tomorrow"), "takes a time such as 90d"),
        (("make", "x", "--streams", "0"), "is not in the range"),
        (("list",), "no store: set REDIS_URL"),
    ],
)
def test_wrong_input_is_named(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    refused = keys(tmp_path / "data", *arguments)
    assert refused.returncode in {1, 2}
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_name_that_is_taken_or_unknown_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    secret_of(keys(data, "make", "mine"))
    assert "there is no key 'nobody'" in keys(data, "show", "nobody").stderr
    again = keys(data, "make", "mine")
    assert (again.returncode, again.stdout) == (1, "")
    assert "there is, or was, a key named 'mine'" in again.stderr
