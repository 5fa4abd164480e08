"""Real `respool` processes, to be killed."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

RESPOOL = Path(sys.executable).parent / "respool"
_STOP_SECONDS = 20.0


class Process:
    """A running `respool`, in a session of its own."""

    def __init__(self, log_path: Path, *arguments: str, **environment: str) -> None:
        self._log_path = log_path
        with log_path.open("ab") as output:
            self._process = subprocess.Popen(
                [RESPOOL, *arguments],
                env=clean_environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._log_path.read_text("utf-8")

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    async def until_begun(self) -> None:
        """Wait until it is our program that runs, and no longer Python that starts."""
        async with asyncio.timeout(_STOP_SECONDS):
            while not self._catches(signal.SIGTERM):
                await asyncio.sleep(0.005)

    def _catches(self, number: signal.Signals) -> bool:
        status = Path(f"/proc/{self.pid}/status").read_text("ascii")
        [mask] = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
        return bool(int(mask, 16) >> (number - 1) & 1)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """Its exit status. subprocess.TimeoutExpired if it does not end."""
        return self._process.wait(_STOP_SECONDS)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def clean_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment with nothing of Respool's but `settings`."""
    kept = ("PATH", "PYTHONPATH", "HOME", "LANG", "TMPDIR", "XDG_CACHE_HOME")
    return {name: os.environ[name] for name in kept if name in os.environ} | dict(settings)


@contextmanager
def respool(log_path: Path, *arguments: str, **environment: str) -> Iterator[Process]:
    """A process that does not outlive the block."""
    process = Process(log_path, *arguments, **environment)
    try:
        yield process
    finally:
        if not process.has_ended:
            process.kill()


def until_ok(url: str) -> httpx.Response:
    """The first good answer of a process that may still be starting."""
    until = time.monotonic() + _STOP_SECONDS
    while True:
        try:
            if (response := httpx.get(url)).is_success:
                return response
        except httpx.HTTPError:
            pass
        assert time.monotonic() < until
        time.sleep(0.02)
