"""Asking a process to stop, and starting what an early request to stop cuts short."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class Stop:
    """How somebody asks a role to stop: once to finish its work, twice to give it back now."""

    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self.now = asyncio.Event()

        self._on_drain: tuple[Callable[[], None], ...] = ()

    def on_drain(self, *callbacks: Callable[[], None]) -> None:
        """Call these when the first request comes; it must not have to wait for anything."""
        self._on_drain = callbacks

    async def unless_asked(self, starting: Coroutine[Any, Any, Result]) -> Result | None:
        """What `starting` returns or raises; None if somebody asks first, and then it is cancelled."""
        working = asyncio.ensure_future(starting)
        asking = asyncio.ensure_future(self.draining.wait())
        try:
            await asyncio.wait((working, asking), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            asking.cancel()
            await asyncio.gather(working, asking, return_exceptions=True)

    def ask(self) -> None:
        (self.now if self.draining.is_set() else self.draining).set()
        for callback in self._on_drain:
            callback()
