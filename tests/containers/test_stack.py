"""The deployment of compose.yaml in containers: healthy, closed, and whole after what happens to it.

It takes minutes, and a container engine: `make stack`.
"""

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest

from tests.containers.stack import API_KEY, Stack, docker, soon
from tests.deploy.compose import ROOT

GATEWAYS, WORKERS = 3, 3
TEN_SECONDS = " ".join(["word"] * 100)  # At the 10 tokens/s of the stack's inference server.


@pytest.fixture(scope="module")
def stack(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if "STACK" not in os.environ:
        pytest.skip("the deployment in containers takes minutes: make stack")
    with Stack(tmp_path_factory.mktemp("stack"), "high").up() as running:
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


def submitted(client: httpx.Client, prompt: str) -> str:
    request = {"messages": [{"role": "user", "content": prompt}]}
    answer = client.post("/v1/jobs", json={"model": "echo", "request": request})
    job_id: str = answer.raise_for_status().json()["id"]
    return job_id


def job(client: httpx.Client, job_id: str) -> dict[str, object]:
    """A job as it is now; a store that is away is waited for, as callers are told to."""
    while (answer := client.get(f"/v1/jobs/{job_id}")).status_code == 503:
        time.sleep(float(answer.headers["Retry-After"]))
    found: dict[str, object] = answer.raise_for_status().json()
    return found


def block(after: str) -> str:
    """The first commands of docs/compose.md after these words, as they stand there."""
    text = (ROOT / "docs" / "compose.md").read_text("utf-8")
    found = re.search(r"^```\n(.*?)^```$", text[text.index(after) :], re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def completes(client: httpx.Client, job_id: str) -> None:
    soon(lambda: job(client, job_id)["status"] in {"completed", "failed"})
    assert job(client, job_id)["status"] == "completed"


def test_all_of_it_is_healthy(stack: Stack) -> None:
    containers = stack.containers()
    health = {name: one["State"]["Health"]["Status"] for name, one in containers.items()}
    assert set(health.values()) == {"healthy"}
    assert len([name for name in health if name.startswith("gateway")]) == GATEWAYS
    assert len([name for name in health if name.startswith("worker")]) == WORKERS
    others = {"redis-1", "projector-1", "backup-1", "nginx-1", "prometheus-1", "alertmanager-1"}
    assert others <= health.keys()


def test_a_job_goes_through_nginx_and_only_with_a_key(client: httpx.Client) -> None:
    request = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
    answer = client.post("/v1/chat/completions", json=request)
    assert answer.json()["choices"][0]["message"]["content"] == "hello"
    assert answer.headers["x-job-id"]
    del client.headers["Authorization"]
    assert client.post("/v1/chat/completions", json=request).status_code == 401
    assert client.get("/metrics").status_code == 404


def test_no_container_can_do_anything_to_this_machine(stack: Stack) -> None:
    for name, container in stack.containers().items():
        status = docker("exec", container["Id"], "cat", "/proc/1/status").splitlines()
        said = dict(line.split(":\t", 1) for line in status)
        assert int(said["CapEff"], 16) == int(said["CapBnd"], 16) == 0, name
        assert said["NoNewPrivs"] == "1", name
        assert "0" not in said["Uid"].split(), name
        assert container["HostConfig"]["ReadonlyRootfs"], name
        assert container["HostConfig"]["Memory"] > 0, name


def test_memory_limits_are_in_force(stack: Stack) -> None:
    """The backups' container may have 256 MB."""
    script = "import sys; sys.exit(len(bytearray(300 * 1024 * 1024)) == 0)"
    options = ["run", "--rm", "--no-deps", "--entrypoint", "python", "backup"]
    stack(*options, "-c", script.replace("300", "100"))
    with pytest.raises(AssertionError):
        stack(*options, "-c", script)


REACH = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 53), timeout=3)
    print("reached")
except ConnectionRefusedError:
    print("reached")
except OSError as error:
    print(f"closed: {error}")
"""


def test_the_backend_has_no_way_out(stack: Stack) -> None:
    def tried_by(service: str) -> str:
        return stack("exec", "-T", service, "python", "-c", REACH, first_hop())

    if "reached" not in tried_by("gateway"):
        pytest.skip("nothing outside answers here, so nobody knows")
    for service in ("worker", "projector", "backup"):
        assert "closed" in tried_by(service)


def first_hop() -> str:
    """The nearest address that is outside: this machine's way out."""
    for line in Path("/proc/net/route").read_text("ascii").splitlines()[1:]:
        _, destination, gateway, *_ = line.split()
        if int(destination, 16) == 0:
            return str(ip_address(int(gateway, 16).to_bytes(4, "little")))
    pytest.skip("this machine has no way out itself")


def test_only_nginx_and_what_is_for_this_machine_is_published(stack: Stack) -> None:
    published = {
        name: {where["HostIp"] for ports in ways_in.values() for where in ports or ()}
        for name, container in stack.containers().items()
        if any((ways_in := container["NetworkSettings"]["Ports"]).values())
    }
    here = {"127.0.0.1"}  # nginx too: this test's.
    assert published == {"nginx-1": here, "gateway-1": here, "prometheus-1": here}
    url = f"http://127.0.0.1:{stack.gateway_port}/v1/models"
    assert httpx.get(url).status_code == 401
    key = {"Authorization": f"Bearer {API_KEY}"}
    assert [model["id"] for model in httpx.get(url, headers=key).json()["data"]] == ["echo"]


def test_commands_of_the_program_are_there(stack: Stack, client: httpx.Client) -> None:
    job_id = submitted(client, "hi")
    completes(client, job_id)
    assert job_id in stack("exec", "-T", "gateway", "respool", "jobs", "--json")
    assert "nothing to apply" in stack("run", "--rm", "migrate", "migrate", "--plan")


def test_a_killed_workers_job_is_finished_by_another(stack: Stack, client: httpx.Client) -> None:
    job_id = submitted(client, TEN_SECONDS)
    soon(lambda: job(client, job_id)["status"] == "running")
    name = str(job(client, job_id)["worker"])  # HOST-PID-…, and a container's host is its id.
    [running] = [one for one in stack.of("worker") if one.startswith(name.partition("-")[0])]
    docker("kill", running)
    completes(client, job_id)
    events = client.get(f"/v1/jobs/{job_id}/events").json()["events"]
    assert [event["type"] for event in events] == [
        *("submitted", "claimed", "attempt_lost", "claimed", "completed")
    ]
    stack("up", "--detach", "--wait", "--no-build")  # What was killed by hand stays down.
    assert len(stack.of("worker")) == WORKERS


def test_a_restart_of_redis_loses_nothing(stack: Stack, client: httpx.Client) -> None:
    jobs = [submitted(client, "a b c d e") for _ in range(10)]
    stack("restart", "redis")
    for job_id in jobs:
        completes(client, job_id)
    stack("exec", "-T", "projector", "respool", "replay", "verify")


def test_prometheus_scrapes_every_gateway_and_worker(stack: Stack) -> None:
    def up(job_name: str) -> int:
        return sum(one["value"][1] == "1" for one in stack.prometheus(f'up{{job="{job_name}"}}'))

    soon(lambda: (up("gateway"), up("worker")) == (GATEWAYS, WORKERS))


def test_the_checklist_has_evidence(stack: Stack) -> None:
    """But for what can only be seen from outside, and for reports that nobody has made."""
    said = json.loads(stack("run", "--rm", "doctor", "doctor", "--json", check=False))
    passed = {box["box"] for box in said["boxes"] if box["verdict"] == "pass"}
    guides = {"persistence", "health", "keys", "logs", "monitoring", "alerts"}
    ours = {"eviction", "memory", "clock", "migrations", "worker", "views", "archive", "upstream"}
    assert guides | ours <= passed


FORWARDED = b"\x94\xa7gateway"  # MessagePack: a list of four, of which the tag is the first.


def test_a_gateway_runs_without_fluentd_and_tells_it_all_once_it_is_there(
    stack: Stack, client: httpx.Client
) -> None:
    stack("up", "--detach", "--wait", "--no-build", "gateway-2", overlays=["fluentd"])
    for _ in range(2 * GATEWAYS):  # nginx gives each gateway some.
        submitted(client, "hi")
    with socket.create_server(("127.0.0.1", stack.fluentd_port)) as fluentd:
        fluentd.settimeout(30)
        connection, _ = fluentd.accept()
        with connection:
            connection.settimeout(30)
            told = b""
            while b'"event":"job submitted"' not in told:
                told += connection.recv(65_536)
    assert told.startswith(FORWARDED)
    assert b"serving http://" in told  # Of the time before.
    # Nobody listens any more, and the gateway can be stopped all the same.
    stack("up", "--detach", "--wait", "--no-build")


def test_an_upgrade_goes_on_step_by_step(stack: Stack, client: httpx.Client) -> None:
    job_id = submitted(client, TEN_SECONDS)
    before = set(stack.of("gateway") + stack.of("worker"))
    stack.shell(block("**An upgrade**"), QUEUE_LIMIT="999")  # So that all are made anew.
    assert before.isdisjoint(stack.of("gateway") + stack.of("worker"))
    completes(client, job_id)


def test_a_lost_redis_is_brought_back_step_by_step(stack: Stack, client: httpx.Client) -> None:
    kept = submitted(client, "to be kept")
    completes(client, kept)
    stack("exec", "-T", "backup", "respool", "backup")
    stack("rm", "--force", "--stop", "redis")
    docker("volume", "rm", "respool-test_redis_data")
    stack.own_volumes()
    said = stack.shell(block("## After a loss"))
    assert said.count("as the log says") == 2  # By the restore, and by verify.
    completes(client, kept)
    completes(client, submitted(client, "and on it goes"))
