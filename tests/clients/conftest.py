"""A whole site on this machine: `respool up` with the demo model, and a second worker for embeddings."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import openai
import pytest
from msgspec import Struct

from cli import demo
from tests.cli.conftest import stop_store
from tests.clients import embeddings_server
from tests.processes import Process, respool
from tests.servers import free_port

STARTING_SECONDS = 120.0  # Two models, on a machine that may have a lot to do.
PATIENCE_SECONDS = 120.0
QUEUE_LIMIT = 2
CHAT_MODEL = demo.MODEL
EMBEDDINGS_MODEL = embeddings_server.MODEL

# An Ollama on its usual port would be used instead.
needs_demo_model = pytest.mark.skipif(
    not demo.is_installed() or not demo.is_needed({}),
    reason="the demo model is not installed (`make demo` does it), or an Ollama answers in its place",
)


class Site(Struct, frozen=True):
    """Where everything is."""

    url: str
    model_url: str  # Of llama.cpp itself, which the worker asks.

    def client(self, max_retries: int = 0) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key="none",
            max_retries=max_retries,
            timeout=PATIENCE_SECONDS,
        )

    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_SECONDS
        )

    def is_generating(self) -> bool:
        """Say whether llama.cpp works on anything."""
        slots = httpx.get(f"{self.model_url}/slots", timeout=PATIENCE_SECONDS).json()
        return any(slot["is_processing"] for slot in slots)

    def decoded(self) -> int:
        """How often llama.cpp has decoded, ever."""
        lines = httpx.get(f"{self.model_url}/metrics", timeout=PATIENCE_SECONDS).text.splitlines()
        [value] = [line.split()[1] for line in lines if line.startswith("llamacpp:n_decode_total ")]
        return int(value)

    def job(self, job_id: str) -> dict[str, object]:
        job: dict[str, object] = httpx.get(
            f"{self.url}/v1/jobs/{job_id}", params={"wait": 60}, timeout=PATIENCE_SECONDS
        ).json()
        return job


def until(is_so: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Return once it is so; it is an error if that takes too long."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site, which lasts for the tests of a module."""
    folder = tmp_path_factory.mktemp("site")
    url = f"http://127.0.0.1:{free_port()}"
    settings = {
        "API_PORT": url.rpartition(":")[2],
        "WORKER_PORT": "0",
        "WORKER_CONCURRENCY": "2",
        "QUEUE_LIMIT": str(QUEUE_LIMIT),
        "RESPOOL_DATA_DIR": str(folder),
    }
    with ExitStack() as stack:
        stack.callback(stop_store, folder)  # It outlives a killed `up`.
        up = stack.enter_context(respool(folder / "up.log", "up", **settings))
        until(lambda: answers(f"{url}/readyz", up), STARTING_SECONDS)
        embeddings_url = stack.enter_context(_embeddings_server())
        store_port = json.loads((folder / "store.json").read_bytes())["port"]
        worker = {
            "REDIS_URL": f"redis://127.0.0.1:{store_port}/0",
            "UPSTREAM_URL": embeddings_url,
            "WORKER_PORT": "0",
        }
        second = stack.enter_context(respool(folder / "worker.log", "worker", **worker))
        until(lambda: _serves(url, EMBEDDINGS_MODEL, second), STARTING_SECONDS)
        found = re.search(r"^upstream +(\S+)", up.output, re.MULTILINE)
        assert found is not None
        yield Site(url, found[1])


def answers(url: str, process: Process) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        assert not process.has_ended, process.output
        return False


def _serves(url: str, model: str, process: Process) -> bool:
    assert not process.has_ended, process.output
    return model in httpx.get(f"{url}/v1/models").text


@contextmanager
def _embeddings_server() -> Iterator[str]:
    model_path: Path = demo._assemble()
    port = free_port()
    command = [sys.executable, "-m", "tests.clients.embeddings_server", str(model_path), str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()
