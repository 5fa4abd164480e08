"""An event loop without waiting: when nothing is ready, its clock goes on to the next timer.

So an hour of a job's life takes milliseconds, and what happens is a function of what was scheduled.
"""

import asyncio
import selectors
from typing import Final

_START_SECONDS: Final = 1_000.0  # Not zero, so that a time that was forgotten shows.


class Stuck(Exception):
    """No task is ready and no timer is set: whoever waits would wait for ever."""


class _Clock(selectors.SelectSelector):
    """Waits for nobody: a wait for input is time that has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = _START_SECONDS

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("every task waits for another one")
        self.seconds += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop for one thread and no sockets."""

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._clock.seconds
