"""A primary for one replica, which gives it a dump: how a store comes back into a Redis on another machine.

A dump cannot be sent into a Redis by commands but key by key, and then only to a server of the same version; and
a dump.rdb that is put beside an append-only file is not looked at. But every Redis takes a whole dump from its
primary, writes it into its append-only file, and is a primary again once it is told so. So for that moment we are
its primary: this is as much of the protocol (`replication.c`) as a replica asks for.

A replica says AUTH with its `masterauth` before all else. That is a secret of this one restore, so nobody else
who finds the port gets anything.
"""

import asyncio
import hmac
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

import hiredis

from cli.backup.shelf import BackupError
from core.errors import StoreUnavailable

_CHUNK_BYTES: Final = 256 * 1024
_SILENCE_SECONDS: Final = 60.0


class Primary:
    """Waits for its replica, gives it a dump, and then commands."""

    def __init__(self) -> None:
        self.secret = secrets.token_hex(16)
        self.host, self.port = "", 0
        self._synchronizing = asyncio.Queue[asyncio.StreamWriter]()
        self._replica: asyncio.StreamWriter | None = None
        self._open = dict[asyncio.StreamWriter, asyncio.Task[Any]]()
        self.has_left = asyncio.Event()  # The replica, after it was given its dump.

    @classmethod
    @asynccontextmanager
    async def listening(cls, host: str) -> AsyncIterator[Self]:
        """One that listens on an address of this machine. Raises BackupError."""
        primary = cls()
        try:
            server = await asyncio.start_server(primary._serve, host, 0)
        except OSError as error:
            raise BackupError(
                f"{host!r} is no address of this machine, at which Redis could fetch the backup: {error}"
            ) from error
        primary.host, primary.port = server.sockets[0].getsockname()[:2]
        try:
            yield primary
        finally:
            server.close()
            for writer in primary._open:
                writer.close()
            await asyncio.gather(*primary._open.values(), return_exceptions=True)

    async def until_asked(self, seconds: float) -> None:
        """Wait for a replica that knows the secret. Raises StoreUnavailable."""
        try:
            async with asyncio.timeout(seconds):
                self._replica = await self._synchronizing.get()
        except TimeoutError as error:
            raise StoreUnavailable(
                f"Redis has not come for the backup within {seconds:g} s: it has to be able to connect to "
                f"{self.host}, port {self.port}; --listen names another address of this machine"
            ) from error

    async def give(self, dump: Path, told: Callable[[int, int | None], None]) -> None:
        """Send the dump. Raises StoreUnavailable if the replica does not take it, OSError."""
        size = dump.stat().st_size
        await self._send(f"+FULLRESYNC {secrets.token_hex(20)} 0\r\n${size}\r\n".encode())
        sent = 0
        with dump.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                await self._send(chunk)
                sent += len(chunk)
                told(sent, size)

    async def tell(self, *command: str) -> None:
        """Send a command, which the replica carries out. Raises StoreUnavailable."""
        parts = [part.encode() for part in command]
        body = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        await self._send(b"*%d\r\n" % len(parts) + body)

    async def _send(self, data: bytes) -> None:
        assert self._replica is not None
        if self.has_left.is_set():
            raise StoreUnavailable("Redis has left in the middle of the backup; its log says why")
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                self._replica.write(data)
                await self._replica.drain()
        except (OSError, TimeoutError) as error:
            raise StoreUnavailable("Redis takes no more of the backup; its log says why") from error

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        is_known = False
        task = asyncio.current_task()
        assert task is not None
        self._open[writer] = task
        try:
            while data := await reader.read(_CHUNK_BYTES):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    is_known = is_known or self._is_secret(command)
                    await self._answer(command, writer, is_known=is_known)
        except (OSError, hiredis.HiredisError):
            pass
        finally:
            if writer is self._replica:
                self.has_left.set()
            writer.close()
            del self._open[writer]

    def _is_secret(self, command: Any) -> bool:
        name, *arguments = command if isinstance(command, list) else [b""]
        said = arguments[-1] if arguments and name.upper() == b"AUTH" else b""
        return hmac.compare_digest(said, self.secret.encode())

    async def _answer(self, command: Any, writer: asyncio.StreamWriter, *, is_known: bool) -> None:
        match [part.upper() for part in command] if isinstance(command, list) else []:
            case [b"REPLCONF", b"ACK", *_]:
                return  # It wants no answer.
            case [b"PING", *_]:
                writer.write(b"+PONG\r\n")
            case [b"AUTH" | b"REPLCONF", *_] if is_known:
                writer.write(b"+OK\r\n")
            case [b"PSYNC" | b"SYNC", *_] if is_known:
                self._synchronizing.put_nowait(writer)
            case _:
                writer.write(b"-NOAUTH this is a backup that is being restored\r\n")
        await writer.drain()
