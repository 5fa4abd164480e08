"""Programs that `respool up` runs beside itself: the embedded store and the demo model."""

import asyncio
import logging
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_LOOK_EVERY_SECONDS: Final = 0.5
_STOP_SECONDS: Final = 30.0


class Child:
    """One program, started again when it ends by itself.

    It gets a session of its own, so that Ctrl-C reaches only us and it can be stopped last. Its
    standard input is a pipe that closes when we are gone, however we went.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        before_start: Callable[[], object] = lambda: None,
    ) -> None:
        self._name = name
        self._command = command
        self._log_path = log_path
        self._before_start = before_start
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def last_words(self, lines: int = 5) -> str:
        """The end of its log, for an error message."""
        return "\n".join(self._log_path.read_text("utf-8", "replace").splitlines()[-lines:])

    def start(self) -> None:
        self._log_path.parent.mkdir(parents=True, exist_ok=True)  # Somebody may have removed it.
        self._before_start()
        with self._log_path.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def keep(self) -> None:
        """Start it again whenever it has ended, for ever."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            if self.has_ended:
                log.error(
                    "%s ended by itself and is started again; see %s", self._name, self._log_path
                )
                self.start()

    async def stop(self) -> None:
        """Ask it to end, and make it if it does not."""
        if self._process is None:
            return
        self._process.terminate()
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.to_thread(self._process.wait, _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        self._process = None
