"""A dump comes whole, in both ways in which Redis sends one, or not at all, with the reason."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cli.backup import transfer
from cli.backup.transfer import receive
from core.errors import StoreDenied, StoreError, StoreUnavailable
from core.redis import connect
from tests.servers import SERVERS, running

DISKLESS = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
BY_FILE = ("--repl-diskless-sync", "no")


@pytest.mark.parametrize("options", [DISKLESS, BY_FILE], ids=["diskless", "by file"])
@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_a_server_that_starts_on_the_dump_has_everything(
    tmp_path: Path, kind: str, options: tuple[str, ...]
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    values = {f"key {n}": "x" * n * 1_000 for n in range(300)}
    with running(SERVERS[kind](tmp_path, *options)) as server:
        client = connect(server.url)
        await client.mset(values)
        told: list[tuple[int, int | None]] = []
        with (copy / "dump.rdb").open("wb") as file:
            dump = await receive(client, file.write, lambda *done: told.append(done))
        assert dump.bytes == (copy / "dump.rdb").stat().st_size == told[-1][0]
        assert (await client.info("replication"))["connected_slaves"] == 0
        await client.aclose()
    with running(SERVERS[kind](copy)) as again:
        client = connect(again.url)
        assert await client.dbsize() == 300
        assert await client.get("key 299") == values["key 299"].encode()
        await client.aclose()


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_a_user_who_may_not_is_told_what_it_takes(tmp_path: Path, kind: str) -> None:
    with running(SERVERS[kind](tmp_path)) as server:
        admin = connect(server.url)
        await admin.execute_command("ACL", "SETUSER", "someone", "on", ">x", "~*", "+@all", "-sync")
        client = connect(server.url.replace("redis://", "redis://someone:x@"))
        with pytest.raises(StoreDenied, match="SYNC, PSYNC and REPLCONF"):
            await receive(client, lambda _: None, lambda *_: None)
        await client.aclose()
        await admin.aclose()


@asynccontextmanager
async def answering_sync_with(reply: bytes, *, closes: bool = True) -> AsyncIterator[str]:
    """The URL of something that answers every command with OK, and SYNC with `reply`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line == b"SYNC\r\n":
                writer.write(reply)
                await writer.drain()
                if closes:
                    writer.close()
            elif line.startswith(b"*"):
                writer.write(b"" if line == b"*1\r\n" else b"+OK\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        (b"\n\n$100\r\nREDIS0010abc", StoreUnavailable, "broke off"),
        (b"$EOF:" + b"m" * 40 + b"\r\nREDIS0010abc" + b"m" * 39, StoreUnavailable, "broke off"),
        (b"$12\r\nREDIS0010abc", StoreError, "no dump that this release knows"),
        (b"$12\r\nNOTREDIS\xff890", StoreError, "no dump that this release knows"),
        (b"-NOMASTERLINK Can't SYNC\r\n", StoreUnavailable, "NOMASTERLINK"),
        (b"-ERR unknown command 'SYNC'\r\n", StoreError, "managed services"),
        (b"+OK\r\n", StoreError, "a dump should follow"),
        (b"x" * 2_000, StoreError, "no dump"),
    ],
)
async def test_what_is_no_whole_dump_is_refused(
    reply: bytes, kind: type[StoreError], says: str
) -> None:
    async with answering_sync_with(reply) as url:
        client = connect(url)
        with pytest.raises(kind, match=says):
            await receive(client, lambda _: None, lambda *_: None)
        await client.aclose()


async def test_a_server_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SILENCE_SECONDS", 0.05)
    async with answering_sync_with(b"\n$100\r\nREDIS0010", closes=False) as url:
        client = connect(url)
        with pytest.raises(StoreUnavailable, match="has sent nothing"):
            await receive(client, lambda _: None, lambda *_: None)
        await client.aclose()


BODY = b"REDIS0010" + b"\xfa" * 70 + b"\xff" + b"checksum"
MARK = b"0123456789" * 4


@pytest.mark.parametrize(
    ("sent", "size"),
    [
        (b"$EOF:" + MARK + b"\r\n" + BODY + MARK, None),
        (b"$%d\r\n" % len(BODY) + BODY + b"*1\r\n$4\r\nPING\r\n", len(BODY)),
    ],
    ids=["up to a mark", "by its length"],
)
async def test_a_dump_that_comes_in_pieces_ends_where_it_ends(
    sent: bytes, size: int | None
) -> None:
    reader = asyncio.StreamReader()
    taken = bytearray()
    told: list[tuple[int, int | None]] = []

    async def feed() -> None:
        for byte in b"\n\n" + sent:
            reader.feed_data(bytes([byte]))
            await asyncio.sleep(0)

    sink = transfer._Sink(taken.extend, lambda *done: told.append(done))
    dump, _ = await asyncio.gather(transfer._read(reader, sink), feed())
    assert (bytes(taken), dump.bytes, dump.rdb_version) == (BODY, len(BODY), 10)
    assert told[-1] == (len(BODY), size)
