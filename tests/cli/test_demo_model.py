"""`respool up` with nothing given: a real small model answers."""

import signal
from pathlib import Path

import pytest

from cli.demo import MODEL, is_installed, is_needed
from tests.cli.running import Up
from tests.processes import respool
from tests.servers import free_port

pytestmark = pytest.mark.skipif(
    not is_installed(), reason="the demo model is not installed: `make demo` does it"
)


@pytest.mark.skipif(not is_needed({}), reason="an Ollama answers on its usual port")
def test_without_an_inference_server_a_real_model_answers(tmp_path: Path) -> None:
    port = free_port()
    settings = {
        "API_PORT": str(port),
        "WORKER_PORT": "0",
        "RESPOOL_DATA_DIR": str(tmp_path / "data"),
    }
    with respool(tmp_path / "up.log", "up", **settings) as process:
        up = Up(process, port, tmp_path / "data").until_ready()
        body = {
            "model": MODEL,
            "request": {
                "messages": [{"role": "user", "content": "What is the capital of France?"}]
            },
        }
        job = up.http.post("/v1/jobs", json=body, headers={"Prefer": "wait=50"}).json()
        assert job["status"] == "completed"
        assert job["usage"]["completion_tokens"] > 0
        result = up.http.get(f"/v1/jobs/{job['id']}/result").json()
        assert "Paris" in result["choices"][0]["message"]["content"]
        assert up.events(job) == ["submitted", "claimed", "completed"]
        up.http.close()
        process.send(signal.SIGINT)
        assert process.wait() == 0
