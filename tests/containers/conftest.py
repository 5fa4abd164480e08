"""The container engine, where there is one."""

import shutil
import subprocess

import pytest


@pytest.fixture(scope="package")
def engine() -> None:
    """Skips the test where no container engine answers."""
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    info = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    if info.returncode != 0:
        pytest.skip(f"no container engine answers: {info.stderr.strip()}")
