"""Processes of `respool` for the tests of the command line."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.cli.running import StartUp, Up
from tests.processes import respool
from tests.servers import free_port


@pytest.fixture
def start_up(tmp_path: Path) -> Iterator[StartUp]:
    """Starts `respool up` on the same data directory each time."""
    with ExitStack() as stack:

        def start(upstream_url: str = "echo:", **environment: str) -> Up:
            port = free_port()
            settings = {
                "UPSTREAM_URL": upstream_url,
                "API_PORT": str(port),
                "WORKER_PORT": "0",
                "RESPOOL_DATA_DIR": str(tmp_path / "data"),
                "LEASE_SECONDS": "1",
            }
            process = stack.enter_context(
                respool(tmp_path / "up.log", "up", **settings | environment)
            )
            up = Up(process, port, tmp_path / "data")
            stack.callback(up.http.close)
            return up

        yield start
        stop_store(tmp_path / "data")


def stop_store(data_dir: Path) -> None:
    """A killed `up` leaves its store behind, for the next one to take over."""
    try:
        port = json.loads((data_dir / "store.json").read_bytes())["port"]
    except FileNotFoundError:
        return
    once = Retry(NoBackoff(), 0)
    with redis.Redis(port=port, retry=once) as client, suppress(redis.RedisError):
        client.shutdown(nosave=True, force=True)
