"""Other clients, as they come: curl with the guide's own command, Node's client, and a key that is wrong."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest

from tests.cli.conftest import stop_store
from tests.clients.conftest import STARTING_SECONDS, answers, until
from tests.processes import respool
from tests.servers import free_port

OPENAI_FOR_NODE = "openai@6.30.1"
INSTALLING_SECONDS = 120
KEY = "sk-the-right-one"
GUIDE = """\
curl -X POST http://localhost:18080/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{"model":"gpt-oss:20b","messages":[{"role":"user","content":"Test"}],"stream":false}'
"""


@contextmanager
def echoing(folder: Path, **settings: str) -> Iterator[str]:
    """The URL of a `respool up` whose model says what it was told."""
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    usual = {"UPSTREAM_URL": "echo:", "API_PORT": port, "WORKER_PORT": "0"}
    usual["RESPOOL_DATA_DIR"] = str(folder / "data")
    with respool(folder / "up.log", "up", **usual | settings) as up:
        try:
            until(lambda: answers(f"{url}/readyz", up), STARTING_SECONDS)
            yield url
        finally:
            up.kill()
            stop_store(folder / "data")  # It outlives a killed `up`.


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with echoing(tmp_path_factory.mktemp("echo")) as url:
        yield url


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_guide_s_command_works_as_written(echo: str) -> None:
    port = echo.rpartition(":")[2]
    written = GUIDE.replace("18080", port).replace("gpt-oss:20b", "echo")
    told = subprocess.run(["sh", "-c", written], capture_output=True, check=True)
    answer = json.loads(told.stdout)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Test"}


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with OpenAI's client for Node; skips where it cannot be had."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("node")
    install = [
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--prefix",
        str(folder),
        OPENAI_FOR_NODE,
    ]
    try:
        subprocess.run(install, capture_output=True, check=True, timeout=INSTALLING_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip(f"npm cannot install {OPENAI_FOR_NODE} here")
    shutil.copy(Path(__file__).parent / "client.mjs", folder)
    return folder


def test_node_s_client_gets_what_it_expects(echo: str, node_folder: Path) -> None:
    environment = {"PATH": os.environ["PATH"]}
    told = subprocess.run(
        ["node", "client.mjs", f"{echo}/v1"],
        cwd=node_folder,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr.decode()
    assert json.loads(told.stdout) == {
        "whole": "one two three",
        "streamed": "one two three",
        "tokens": 6,
        "numbers": 8,
        "models": ["echo"],
        "retrieved": "echo",
        "unknown": ["NotFoundError", 404, "model_not_found"],
        "empty": ["UnprocessableEntityError", 422, "invalid_value"],
    }


def test_a_key_that_is_not_known_is_an_authentication_error(tmp_path: Path) -> None:
    with echoing(tmp_path, OPENAI_API_KEY_REQUIRED="true", OPENAI_API_KEY=KEY) as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-another") as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                client.models.list()
            assert refused.value.code == "invalid_api_key"
            assert [one.id for one in client.with_options(api_key=KEY).models.list()] == ["echo"]
        assert httpx.get(f"{url}/v1/models").status_code == 401
