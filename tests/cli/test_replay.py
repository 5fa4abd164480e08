"""`respool replay` beside a running `respool up`, which has its store to itself."""

import subprocess

from tests.cli.running import StartUp, Up
from tests.processes import RESPOOL, clean_environment


def verify(up: Up) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RESPOOL, "replay", "verify"],
        env=clean_environment({"RESPOOL_DATA_DIR": str(up.data_dir)}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_store_of_a_running_up_is_verified(start_up: StartUp) -> None:
    up = start_up().until_ready()
    up.submit("one two three", prefer="wait=20")
    said = verify(up)
    assert (said.returncode, said.stderr) == (0, "")
    assert "as the log says" in said.stdout


def test_a_store_whose_up_was_stopped_is_not_there(start_up: StartUp) -> None:
    up = start_up().until_ready()
    up.process.kill()
    subprocess.run(["kill", "-9", str(up.store_pid())], check=True)
    said = verify(up)
    assert said.returncode == 1
    assert "the store of `respool up` does not run" in said.stderr
    assert "Traceback" not in said.stderr
