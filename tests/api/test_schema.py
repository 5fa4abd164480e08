"""Schemathesis finds no difference between the OpenAPI document and what a served API answers."""

import asyncio
import sys
from pathlib import Path

import pytest

from core.store import EventStore
from tests.api.conftest import Api, OpenApi

CONFIG = Path(__file__).with_name("schemathesis.toml")
_SECONDS = 600.0
_EXAMPLES = 4  # Of each operation, besides those that the document's own limits give.


@pytest.mark.usefixtures("echo_worker", "projector")
async def test_the_document_is_true(open_api: OpenApi, store: EventStore, tmp_path: Path) -> None:
    api = await open_api(store, sync_timeout_seconds=5)
    status, said = await schemathesis(api, tmp_path)
    assert status == 0, said


async def schemathesis(api: Api, folder: Path) -> tuple[int, str]:
    """How it ended, and what it has to say; the same requests each time."""
    checking = await asyncio.create_subprocess_exec(
        *(
            Path(sys.executable).parent / "st",
            "--config-file",
            CONFIG,
            "run",
            f"{api.http.base_url}/openapi.json",
        ),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", str(_EXAMPLES)),
        *("--generation-deterministic", "--seed", "1", "--no-shrink", "--request-timeout", "10"),
        *("--suppress-health-check", "all", "--continue-on-failure", "--warnings", "off"),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            said, _ = await checking.communicate()
    finally:
        if checking.returncode is None:
            checking.kill()
            await checking.wait()
    assert checking.returncode is not None
    return checking.returncode, said.decode()
