"""Writes an attempt's output: the first chunk at once, later ones together while a write is on its way."""

import asyncio

from core.errors import StoreError
from core.output import Emitter, Write


class OutputWriter:
    """The output of one claim. A write that finds the claim gone makes `is_current` False."""

    def __init__(self, emitter: Emitter, job_id: str, claim: int, worker: str) -> None:
        self._emitter = emitter
        self._job_id = job_id
        self._claim = claim
        self._worker = worker
        self._written = 0
        self._waiting: list[bytes] = []
        self._flusher: asyncio.Task[None] | None = None
        self.chunks = 0  # In all, whether or not they could be written.
        self.is_current = True

    def write(self, chunk: bytes) -> None:
        """Queue a chunk."""
        self.chunks += 1
        self._waiting.append(chunk)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())

    async def finish(self) -> None:
        """Wait until everything is written, or cannot be: output is a convenience, the result is not."""
        if self._flusher is not None:
            await self._flusher

    async def _flush(self) -> None:
        while self._waiting and self.is_current:
            chunks, self._waiting = tuple(self._waiting), []
            write = Write(self._job_id, self._claim, self._worker, self._written + 1, chunks)
            try:
                self.is_current = await self._emitter.emit(write)
            except StoreError:
                self._waiting[:0] = chunks  # With the next chunk; what was written after all stays.
                return
            self._written += len(chunks)
