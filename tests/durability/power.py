"""A server whose power can be cut: what it did not sync is gone.

SIGKILL does not show that, as the kernel still writes its page cache. So every sync is written down by
`fsync_ledger.c`, and a power cut is SIGKILL and then the append-only files cut to what was synced.
"""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers import SERVERS, RedisServer

_SOURCE = Path(__file__).with_name("fsync_ledger.c")


def compiled_ledger(folder: Path) -> Path:
    """The library to preload; the test is skipped where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, which the ledger of syncs needs (Debian: apt-get install gcc)")
    library = folder / "fsync_ledger.so"
    options = ("-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-ldl")
    subprocess.run([compiler, str(_SOURCE), *options, "-o", str(library)], check=True)
    return library


class Powered:
    """A server, its disk, and the switch."""

    def __init__(
        self, kind: str, folder: Path, ledger_library: Path, appendfsync: str, delay_ms: int = 0
    ) -> None:
        self._folder = folder
        self._ledger = folder / "ledger"
        options = ("--appendonly", "yes", "--appendfsync", appendfsync)
        self.server: RedisServer = SERVERS[kind](folder, *options)
        self.server.environment = {
            "LD_PRELOAD": str(ledger_library),
            "FSYNC_LEDGER": str(self._ledger),
            "FSYNC_DELAY_MS": str(delay_ms),
        }

    @property
    def url(self) -> str:
        return self.server.url

    async def start(self) -> None:
        """Start it again. Meanwhile the clients in this loop see that their connections are gone."""
        await asyncio.to_thread(self.server.start)

    def is_synced(self) -> bool:
        """Say whether all that is in the append-only files was synced."""
        synced = self._synced()
        return all(synced.get(path, 0) >= path.stat().st_size for path in self._files())

    def cut(self) -> None:
        """Cut the power: the process ends, and what was not synced is gone."""
        self.server.stop()
        synced = self._synced()
        for path in self._files():
            with path.open("r+b") as file:
                file.truncate(synced.get(path, 0))

    def _files(self) -> list[Path]:
        """What is appended to. The base file and the manifest were synced before they got their names."""
        return sorted((self._folder / "appendonlydir").glob("*.incr.aof"))

    def _synced(self) -> dict[Path, int]:
        lines = self._ledger.read_text("utf-8").splitlines() if self._ledger.exists() else []
        pairs = (line.split(" ", 1) for line in lines)
        return {Path(path): int(size) for size, path in pairs}
