"""A dump of a whole Redis, received as its replicas receive one.

BGSAVE and a copy of the file would need to be on the server's machine, and would race: the file is the old one
until the new one is done. A full synchronization (`SYNC`) is one answer that begins with the dump of this moment
and says where it ends, over whatever connection REDIS_URL names. It is what `redis-cli --rdb` does, which is not
installed everywhere. The format is that of `replication.c`: `$LENGTH`, or `$EOF:` and a mark of 40 bytes that
stands behind the dump.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from core.errors import StoreDenied, StoreError, StoreUnavailable
from core.redis import answering

# A Redis that forks, saves or waits sends a newline every `repl-ping-replica-period`, 10 s by default.
SILENCE_SECONDS: Final = 60.0
_CHUNK_BYTES: Final = 256 * 1024
_MARK_BYTES: Final = 40
_LINE_BYTES_MAX: Final = 1_024
_END_BYTES: Final = 9  # 0xFF, and a checksum of 8 bytes.

Write = Callable[[bytes], object]


class Dump(Struct, frozen=True):
    """A dump that is whole."""

    bytes: int
    rdb_version: int


def rdb_version(head: bytes) -> int | None:
    """The version of the format that a file begins with; None if it is no dump of Redis or Valkey."""
    found = re.match(rb"REDIS([0-9]{4})|VALKEY([0-9]{3})", head)
    return int(found[1] or found[2]) if found else None


async def receive(client: Redis, write: Write, told: Callable[[int, int | None], None]) -> Dump:
    """Write a dump of everything that the server has at this moment.

    `told` hears how many bytes there are so far, and of how many if the server says so. Raises StoreDenied,
    StoreError for a server that gives none, StoreUnavailable for one that breaks off.
    """
    pool = client.connection_pool
    async with answering():
        connection = await pool.get_connection()
    try:
        async with answering():
            for option in (("capa", "eof"), ("rdb-only", "1")):
                await _suggest(connection, *option)
            await connection.send_command("SYNC")
        # What follows is no reply: neither redis-py nor hiredis would read it.
        return await _read(connection._reader, _Sink(write, told))  # noqa: SLF001
    finally:
        await connection.disconnect(nowait=True)
        await pool.release(connection)


async def _suggest(connection: Any, *option: str) -> None:
    """Say how we would like it; a server that does not know of it does without."""
    await connection.send_command("REPLCONF", *option)
    try:
        await connection.read_response()
    except NoPermissionError as error:
        raise StoreDenied(f"{_RIGHTS}: {error}") from error
    except ResponseError as error:
        if "unknown command" in str(error):
            raise StoreError(_NONE_GIVEN) from error


_RIGHTS: Final = (
    "the user of REDIS_URL may not make a backup, which takes the commands SYNC, PSYNC and REPLCONF"
)
_NONE_GIVEN: Final = "this Redis gives no dump of itself (SYNC), as managed services do: use the backups that the service has"


class _Sink:
    """Where a dump goes: counted, and looked at where it begins and ends."""

    def __init__(self, write: Write, told: Callable[[int, int | None], None]) -> None:
        self._write = write
        self._told = told
        self.length: int | None = None
        self.bytes = 0
        self._head = self._end = b""

    def take(self, chunk: bytes) -> None:
        if len(self._head) < _END_BYTES:
            self._head = (self._head + chunk)[:_END_BYTES]
        self._end = (self._end + chunk[-_END_BYTES:])[-_END_BYTES:]
        self.bytes += len(chunk)
        self._write(chunk)
        self._told(self.bytes, self.length)

    def whole(self) -> Dump:
        """The dump, if it is one from its first byte to its last. Raises StoreError."""
        version = rdb_version(self._head)
        if version is None or self._end[:1] != b"\xff":
            raise StoreError("what Redis sent is no dump that this release knows")
        return Dump(self.bytes, version)


async def _read(reader: asyncio.StreamReader, sink: _Sink) -> Dump:
    head = await _first_line(reader)
    if head.startswith(b"-"):
        raise _refusal(head[1:].decode(errors="replace"))
    if head.startswith(b"$EOF:") and len(head) == len(b"$EOF:") + _MARK_BYTES:
        await _until_mark(reader, head[-_MARK_BYTES:], sink)
    elif head[:1] == b"$" and head[1:].isdigit():
        sink.length = int(head[1:])
        while sink.bytes < sink.length:
            sink.take(await _some(reader, sink.length - sink.bytes))
    else:
        raise StoreError(f"Redis answered SYNC with {head[:80]!r}, and a dump should follow")
    return sink.whole()


async def _first_line(reader: asyncio.StreamReader) -> bytes:
    """What it says of the dump, once that is ready; newlines before it say that it is at work."""
    line = bytearray()
    while not line.endswith(b"\n"):
        line += await _some(reader, 1)
        if line == b"\n":
            line.clear()
        if len(line) > _LINE_BYTES_MAX:
            raise StoreError(f"Redis answered SYNC with {bytes(line[:80])!r}, and no dump")
    return bytes(line.strip())


def _refusal(text: str) -> StoreError:
    if text.startswith("NOPERM"):
        return StoreDenied(f"{_RIGHTS}: {text}")
    if "unknown command" in text:
        return StoreError(_NONE_GIVEN)
    return StoreUnavailable(f"Redis gives no dump just now: {text}")


async def _until_mark(reader: asyncio.StreamReader, mark: bytes, sink: _Sink) -> None:
    """All up to the mark, which the last bytes that come are."""
    held = b""
    while held != mark:
        held += await _some(reader, _CHUNK_BYTES)
        if len(held) > _MARK_BYTES:
            sink.take(held[:-_MARK_BYTES])
            held = held[-_MARK_BYTES:]


async def _some(reader: asyncio.StreamReader, at_most: int) -> bytes:
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            chunk = await reader.read(min(at_most, _CHUNK_BYTES))
    except TimeoutError as error:
        raise StoreUnavailable(
            f"Redis has sent nothing for {SILENCE_SECONDS:g} s in the middle of a dump"
        ) from error
    except OSError as error:
        raise StoreUnavailable(f"Redis broke off in the middle of a dump: {error}") from error
    if not chunk:
        raise StoreUnavailable("Redis broke off in the middle of a dump; its log says why")
    return chunk
