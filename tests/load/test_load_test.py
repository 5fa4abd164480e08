"""deploy/load/: both load tests ask a real gateway, and `respool doctor` reads what they came to.

k6 itself is not here: its script is checked against k6's types, and run by Node with as much of k6 as it
uses (tests/load/k6/).
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import answers, until
from tests.clients.test_other_clients import INSTALLING_SECONDS
from tests.processes import RESPOOL, clean_environment, respool
from tests.servers import free_port, running, valkey

HERE = Path(__file__).parent
LOAD = HERE.parents[1] / "deploy" / "load"
TYPES = ("@types/k6@2.3.0", "typescript@7.0.2")
STRICT = "--noEmit --allowJs --checkJs --strict --module esnext --moduleResolution bundler --target es2022"
GUIDES_STAGES = "1m:10,5m:50,1m:0"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway, which is one process, and its worker another; their model says what it was told."""
    folder = tmp_path_factory.mktemp("gateway")
    url = f"http://127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        store = {"REDIS_URL": stack.enter_context(running(valkey(folder))).url}
        run(folder, [str(RESPOOL), "migrate"], store).check_returncode()
        port = url.rpartition(":")[2]
        api = stack.enter_context(respool(folder / "api.log", "api", API_PORT=port, **store))
        serving = {"UPSTREAM_URL": "echo:", "WORKER_PORT": "0"} | store
        stack.enter_context(respool(folder / "worker.log", "worker", **serving))
        until(lambda: answers(f"{url}/v1/models/echo", api))
        yield url


def run(
    folder: Path, command: list[str], settings: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=clean_environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def k6(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """The script's seven minutes and fifty users in two seconds, with five."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    shutil.copy(LOAD / "load_test.js", folder / "load_test.mjs")
    shutil.copytree(HERE / "k6", folder / "node_modules" / "k6")
    runner = str(folder / "node_modules" / "k6" / "run.mjs")
    return run(folder, ["node", runner, "load_test.mjs", "0.005", "0.1"], settings)


def locust(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """A second to five users, and one with them."""
    command = [sys.executable, "-m", "locust", "-f", str(LOAD / "locustfile.py"), "--headless"]
    return run(folder, command, {"LOAD_STAGES": "1s:5,1s:5"} | settings)


def load_box(report: Path) -> Any:
    """The doctor's box for load tests, with this report."""
    said = run(report.parent, [str(RESPOOL), "doctor", "--json"], {"LOAD_REPORT": str(report)})
    [box] = [box for box in json.loads(said.stdout)["boxes"] if box["box"] == "load"]
    return box


@pytest.mark.parametrize("load_test", [k6, locust])
def test_a_load_test_that_went_well_ticks_the_doctors_box(
    url: str, tmp_path: Path, load_test: Run
) -> None:
    report = tmp_path / "report.json"
    told = load_test(tmp_path, RESPOOL_URL=url, MODEL="echo", LOAD_REPORT=str(report))
    assert told.returncode == 0, told.stdout + told.stderr
    found = json.loads(report.read_bytes())
    assert (found["tool"], found["failures"]) == (load_test.__name__, 0)
    assert found["requests"] >= found["users"] > 0
    assert 0 < found["median_ms"] <= found["p95_ms"] <= found["p99_ms"]
    box = load_box(report)
    assert box["verdict"] == "pass", box
    assert f"{found['requests']:,} requests on {found['at'][:10]}" in box["evidence"]


@pytest.mark.parametrize("load_test", [k6, locust])
def test_one_that_met_errors_says_so_and_fails_the_box(
    url: str, tmp_path: Path, load_test: Run
) -> None:
    report = tmp_path / "load_report.json"  # Where it goes if nobody says.
    told = load_test(tmp_path, RESPOOL_URL=url)  # Nobody serves the guide's model here.
    assert told.returncode != 0
    found = json.loads(report.read_bytes())
    assert found["model"] == "gpt-oss:20b"
    assert found["failures"] == found["requests"] > 0
    assert load_box(report)["verdict"] == "fail"


def test_both_have_the_guides_stages() -> None:
    script, locustfile = (
        (LOAD / name).read_text("utf-8") for name in ("load_test.js", "locustfile.py")
    )
    stages = re.findall(r'duration: "(\w+)", target: (\d+)', script)
    assert ",".join(map(":".join, stages)) == GUIDES_STAGES
    assert f'"{GUIDES_STAGES}"' in locustfile


def test_stages_that_nobody_can_read_are_named(tmp_path: Path) -> None:
    told = locust(tmp_path, LOAD_STAGES="1m:10,5m")
    assert told.returncode != 0
    assert "LOAD_STAGES takes stages like 1m:10,90s:50,1m:0, not '5m'" in told.stdout + told.stderr


def test_the_script_is_what_k6s_types_say(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    shutil.copy(LOAD / "load_test.js", tmp_path)
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(tmp_path), *TYPES]
    try:
        subprocess.run(install, capture_output=True, check=True, timeout=INSTALLING_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip(f"npm cannot install {' and '.join(TYPES)} here")
    tsc = ["node_modules/.bin/tsc", *STRICT.split(), "--types", "k6", "load_test.js"]
    told = run(tmp_path, tsc, {})
    assert told.returncode == 0, told.stdout
