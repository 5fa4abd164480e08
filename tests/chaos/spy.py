"""Watches Redis itself, in the order in which things happen there: output that is written for a claim
that is not the current one is a fence that did not hold.

MONITOR shows the commands inside our functions, too: those that append to the log, and those that
write output.
"""

import asyncio
from contextlib import suppress
from typing import Final

from msgspec import Struct

_RECONNECT_SECONDS: Final = 0.1
_LINE_BYTES_MAX: Final = 16 * 1024 * 1024
_BETWEEN: Final = b'" "'  # Two arguments; within one a quote is escaped.


class Write(Struct, frozen=True, order=True):
    """That output was written for a claim of a job, and at which version of it."""

    job_id: str
    version: int
    claim: int


class Spy:
    """Every write of output to a job whose version at that moment is known."""

    def __init__(self, port: int) -> None:
        self.writes: set[Write] = set()
        self._port = port
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            with suppress(OSError):
                await self._watch_once()
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _watch_once(self) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, limit=_LINE_BYTES_MAX
        )
        versions: dict[str, int] = {}  # Of this connection: what came in between is unknown.
        try:
            writer.write(b"MONITOR\r\n")
            while line := await reader.readline():
                if b'"XADD"' in line:
                    self._see(line.split(_BETWEEN), versions)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _see(self, arguments: list[bytes], versions: dict[str, int]) -> None:
        """An XADD: to the log with `* j JOB v VERSION`, to an output with `… CLAIM-SEQUENCE d CHUNK`."""
        key = arguments[1]
        if key.endswith(b":log"):
            at = arguments.index(b"*") + 1
            fields = dict(zip(arguments[at::2], arguments[at + 1 :: 2], strict=False))
            versions[fields[b"j"].decode()] = int(fields[b"v"])
        elif b":out:" in key:
            job_id = key.rpartition(b":")[2].decode()
            claim = int(arguments[arguments.index(b"d") - 1].partition(b"-")[0])
            if job_id in versions:
                self.writes.add(Write(job_id, versions[job_id], claim))
