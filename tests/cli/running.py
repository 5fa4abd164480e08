"""A running `respool up`, and a client of it."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any, Protocol

import httpx

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

    def events(self, job: dict[str, Any]) -> list[str]:
        events = self.http.get(f"/v1/jobs/{job['id']}/events").json()["events"]
        return [event["type"] for event in events]

    def store_pid(self) -> int:
        return int(json.loads((self.data_dir / "store.json").read_bytes())["pid"])

    def kill_everything(self) -> None:
        """As a power cut would end it: API, worker and store at once."""
        store = self.store_pid()
        self.process.kill()
        subprocess.run(["kill", "-9", str(store)], check=True)


class StartUp(Protocol):
    def __call__(self, upstream_url: str = ..., **environment: str) -> Up: ...
