"""Connections to Redis, and its errors in our terms."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from redis import exceptions
from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from core.errors import StoreDenied, StoreError, StoreFull, StoreUnavailable

CONNECT_TIMEOUT_SECONDS: Final = 3.0
REPLY_TIMEOUT_SECONDS: Final = 5.0
CONNECTIONS_MAX: Final = 64

# Codes of replies that say «not now», which a later call may not get.
_TRANSIENT: Final = frozenset(
    {
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOREPLICAS",
        "READONLY",
        "TRYAGAIN",
        "UNBLOCKED",
    }
)


class _NoticesReset(AbstractConnection):
    """A connection that knows when it was reset.

    redis-py's pool takes one that was reset while nobody used it for a good one: it looks for the end of
    the stream, and a reset is an error instead. Writing to it is then an OSError on asyncio's own event
    loop, and a RuntimeError on uvloop.
    """

    async def can_read(self) -> bool:
        """Say whether it is unfit for a new command; the pool then connects anew."""
        is_closed = self._writer is not None and self._writer.is_closing()
        return is_closed or await super().can_read()

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            raise exceptions.ConnectionError(f"the connection is closed: {error}") from error


class _TcpConnection(_NoticesReset, Connection):
    pass


class _TlsConnection(_NoticesReset, SSLConnection):
    pass


class _UnixConnection(_NoticesReset, UnixDomainSocketConnection):
    pass


_NOTICING: Final[dict[type[AbstractConnection], type[AbstractConnection]]] = {
    Connection: _TcpConnection,
    SSLConnection: _TlsConnection,
    UnixDomainSocketConnection: _UnixConnection,
}


async def _leave(pool: Any) -> None:
    """Use no connection of a pool again, once the server says that it is a replica.

    After a fail-over the same address may lead to the new primary, but not on a connection that is
    open already: redis-py would use it for ever.
    """
    await pool.update_active_connections_for_reconnect()  # Once they are through.
    for idle in list(pool._available_connections):  # noqa: SLF001 - see below.
        # Not pool.disconnect(), which waits, and closes what somebody has taken meanwhile.
        await idle.disconnect(nowait=True)


_A_REPLICA: Final = (exceptions.ReadOnlyError, exceptions.MasterDownError)


class _Pipeline(Pipeline):
    async def parse_response(self, connection: Connection, *args: Any, **options: Any) -> Any:
        try:
            return await super().parse_response(connection, *args, **options)
        except _A_REPLICA:
            await _leave(self.connection_pool)
            raise


class _Client(Redis):
    """A client that leaves a server that became a replica, also with its pipelines."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    async def parse_response(
        self, connection: Connection, command_name: str | bytes, **options: Any
    ) -> Any:
        try:
            return await super().parse_response(connection, command_name, **options)
        except _A_REPLICA:
            await _leave(self.connection_pool)
            raise


def connect(url: str) -> Redis:
    """A client for `url`, which connects when it is first used.

    redis-py's own retries are off: it would send a write again after a lost reply, without telling.
    """
    return _Client.from_pool(_pool(url))  # Closing the client closes its connections.


def check_url(url: str) -> None:
    """Raises ValueError, in plain words, for a URL that `connect` has no use for."""
    parts = urlsplit(url)
    database = parts.path.strip("/")
    if parts.scheme != "unix" and database and not database.isdigit():
        raise ValueError(f"has {database!r} where the number of a database stands")
    options = ", ".join(sorted(name for name, _ in parse_qsl(parts.query)))
    try:
        connection = _pool(url).make_connection()
        if isinstance(connection, SSLConnection):
            connection.ssl_context.get()  # Reads the files that it names.
    except TypeError as error:  # An option of the URL that no connection knows.
        raise ValueError(f"has an option that there is not: {options}") from error
    except exceptions.RedisError as error:  # A value that an option does not take.
        raise ValueError(f"{error} (of {options})") from error
    except OSError as error:
        raise ValueError(f"names a file that cannot be used: {error} ({options})") from error


def _pool(url: str) -> BlockingConnectionPool:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=REPLY_TIMEOUT_SECONDS,
        socket_timeout=None,  # `answering` has the limit: see there.
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,  # It would cost each new connection a round trip before its first call.
    )
    pool.connection_class = _NOTICING[pool.connection_class]
    return pool


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """Wait for Redis's answer, and no longer than REPLY_TIMEOUT_SECONDS.

    Raises Redis's errors as ours: StoreUnavailable, StoreFull, StoreDenied; what is none of these is a
    StoreError. The limit is here and not redis-py's own, as that one is kept with `asyncio.wait_for`,
    which on Python 3.11 loses a cancellation that comes at the moment of the answer.
    """
    try:
        async with asyncio.timeout(REPLY_TIMEOUT_SECONDS):
            yield
    except (exceptions.RedisError, OSError) as error:
        raise our_error(error) from error


def our_error(error: exceptions.RedisError | OSError) -> StoreError:
    """What an error of Redis, of its client or of the network is in our terms."""
    code, text = _parsed(error)
    if code in _TRANSIENT:
        return StoreUnavailable(f"Redis cannot do it just now: {code} {text}")
    match error:
        case exceptions.OutOfMemoryError():
            return StoreFull("Redis is out of memory and takes no new jobs")
        case exceptions.AuthenticationError() | exceptions.AuthorizationError():
            return StoreDenied(f"Redis refuses the user or the password of REDIS_URL: {text}")
        case exceptions.NoPermissionError():
            return StoreDenied(f"Redis does not let the user of REDIS_URL do this: {text}")
        case exceptions.ResponseError():
            return StoreError(
                f"Redis refused: {text}" if code is None else f"Redis refused: {code} {text}"
            )
        case _:
            return StoreUnavailable(f"Redis does not answer: {text}")


def is_transient(reply: str) -> bool:
    """Say whether an error reply, its code in front, is one that a later call may not get."""
    return reply.partition(" ")[0] in _TRANSIENT


def _parsed(error: Exception) -> tuple[str | None, str]:
    """An error's code, if it has one, and its text: redis-py takes the codes that it knows off the text."""
    text = str(error) or type(error).__name__
    known = error.status_code if isinstance(error, exceptions.RedisError) else None
    if known is not None:
        return known, text
    first, _, rest = text.partition(" ")
    is_reply = isinstance(error, exceptions.ResponseError)
    return (first, rest) if is_reply and first.isupper() else (None, text)
