"""How long a client waits for a job that takes no time: what Respool itself adds."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

WARM_UP = 50
BODY = {"model": "echo", "request": {"messages": [{"role": "user", "content": "hello"}]}}


def idle_latencies_ms(redis_url: str, requests: int) -> list[float]:
    """Milliseconds from POST with `Prefer: wait` to the answer, on one kept connection."""
    return idle(redis_url, requests)[0]


def idle(redis_url: str, requests: int) -> tuple[list[float], float]:
    """As above, and the milliseconds of CPU that `respool up` took for one."""
    port = free_port()
    environment = os.environ | {
        "REDIS_URL": redis_url,
        "UPSTREAM_URL": "echo:",
        "API_PORT": str(port),
        "WORKER_PORT": "0",
    }
    respool = Path(sys.executable).parent / "respool"
    process = subprocess.Popen([respool, "up"], env=environment, stdout=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            _until_ready(client)
            for _ in range(WARM_UP):
                _ask_ms(client)
            before = _cpu_ms(process.pid)
            samples = [_ask_ms(client) for _ in range(requests)]
            return samples, (_cpu_ms(process.pid) - before) / requests
    finally:
        process.terminate()
        process.wait()


def _cpu_ms(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000 / os.sysconf("SC_CLK_TCK")


def _ask_ms(client: httpx.Client) -> float:
    started = time.perf_counter()
    response = client.post("/v1/jobs", json=BODY, headers={"Prefer": "wait=10"})
    elapsed_ms = (time.perf_counter() - started) * 1_000
    assert response.json()["status"] == "completed", response.text
    return elapsed_ms


def _until_ready(client: httpx.Client) -> None:
    while True:
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
