"""A running `respool up`, and a client of it."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any, Protocol

import httpx
import redis

from tests.processes import Process

READY_SECONDS = 30.0


class Up:
    """A `respool up` and a client of it."""

    def __init__(self, process: Process, port: int, data_dir: Path) -> None:
        self.process = process
        self.data_dir = data_dir
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)

    def until_ready(self) -> "Up":
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                if self.http.get("/readyz").is_success:
                    return self
            except httpx.HTTPError:
                assert not self.process.has_ended, self.process.output
            assert time.monotonic() < until, self.process.output
            time.sleep(0.02)

    def submit(self, prompt: str, prefer: str = "") -> dict[str, Any]:
        body = {"model": "echo", "request": {"messages": [{"role": "user", "content": prompt}]}}
        response = self.http.post("/v1/jobs", json=body, headers={"Prefer": prefer})
        assert response.status_code in {200, 202}, response.text
        job: dict[str, Any] = response.json()
        return job

    def until_ready_on(self, port: str) -> "Up":
        """As `until_ready`, on a port that the test chose."""
        self.http.base_url = httpx.URL(f"http://127.0.0.1:{port}")
        return self.until_ready()

    def submit_delayed(self, prompt: str, delay_seconds: float) -> dict[str, Any]:
        request = {"messages": [{"role": "user", "content": prompt}]}
        body = {"model": "echo", "request": request, "delay_seconds": delay_seconds}
        job: dict[str, Any] = self.http.post("/v1/jobs", json=body).json()
        return job

    def submit_until_accepted(self, prompt: str) -> None:
        """Submit, again as long as the store is away."""
        body = {"model": "echo", "request": {"messages": [{"role": "user", "content": prompt}]}}
        until = time.monotonic() + READY_SECONDS
        while self.http.post("/v1/jobs", json=body).status_code == 503:
            assert time.monotonic() < until
            time.sleep(0.05)

    def events(self, job: dict[str, Any]) -> list[str]:
        events = self.http.get(f"/v1/jobs/{job['id']}/events").json()["events"]
        return [event["type"] for event in events]

    def store_pid(self) -> int:
        port = json.loads((self.data_dir / "store.json").read_bytes())["port"]
        with redis.Redis(port=port) as client:
            return int(client.info("server")["process_id"])

    def kill_everything(self) -> None:
        """As a power cut would end it: API, worker and store at once."""
        store = self.store_pid()
        self.process.kill()
        subprocess.run(["kill", "-9", str(store)], check=True)


class StartUp(Protocol):
    def __call__(self, upstream_url: str = ..., **environment: str) -> Up: ...
