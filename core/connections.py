"""Connections to one Redis, and clients of it: without redis-py's own retries, and wary of what it takes for good."""

from collections.abc import Iterable
from typing import Any, Final

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

CONNECT_TIMEOUT_SECONDS: Final = 3.0
REPLY_TIMEOUT_SECONDS: Final = 5.0
CONNECTIONS_MAX: Final = 64


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


class Client(Redis):
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


def client_of(url: str) -> Client:
    """A client of one server, which connects when it is first used.

    redis-py's own retries are off: it would send a write again after a lost reply, without telling.
    """
    client = Client(connection_pool=pool_of(url))
    client.auto_close_connection_pool = True  # Closing the client closes its connections.
    return client


def pool_of(url: str) -> BlockingConnectionPool:
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
