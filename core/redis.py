"""Connections to Redis, and its errors in our terms."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from redis import exceptions
from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from core.errors import StoreError, StoreFull, StoreUnavailable

CONNECT_TIMEOUT_SECONDS: Final = 3.0
REPLY_TIMEOUT_SECONDS: Final = 5.0
CONNECTIONS_MAX: Final = 64

# Replies that say «not now», which a later call may not get.
_TRANSIENT: Final = (
    "LOADING",
    "BUSY",
    "MASTERDOWN",
    "READONLY",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "MISCONF",
    "NOREPLICAS",
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


def connect(url: str) -> Redis:
    """A client for `url`, which connects when it is first used.

    redis-py's own retries are off: it would send a write again after a lost reply, without telling.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=REPLY_TIMEOUT_SECONDS,
        socket_timeout=None,  # `answering` has the limit: see there.
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        socket_keepalive=True,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    pool.connection_class = _NOTICING[pool.connection_class]
    return Redis.from_pool(pool)  # Closing the client closes its connections.


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """Wait for Redis's answer, and no longer than REPLY_TIMEOUT_SECONDS.

    Turns its errors into ours: StoreUnavailable or StoreFull; what is neither is a StoreError. The limit
    is here and not redis-py's own, as that one is kept with `asyncio.wait_for`, which on Python 3.11
    loses a cancellation that comes at the moment of the answer.
    """
    try:
        async with asyncio.timeout(REPLY_TIMEOUT_SECONDS):
            yield
    except exceptions.OutOfMemoryError as error:
        raise StoreFull("Redis is out of memory and takes no new jobs") from error
    except (
        exceptions.ConnectionError,
        exceptions.TimeoutError,
        exceptions.BusyLoadingError,
        exceptions.ReadOnlyError,
        OSError,
    ) as error:
        raise StoreUnavailable(
            f"Redis does not answer: {str(error) or type(error).__name__}"
        ) from error
    except exceptions.ResponseError as error:
        if str(error).startswith(_TRANSIENT):
            raise StoreUnavailable(f"Redis cannot do it just now: {error}") from error
        raise StoreError(f"Redis refused: {error}") from error
    except exceptions.RedisError as error:
        raise StoreUnavailable(f"Redis failed: {error}") from error
