"""The real server as the simulation uses it: one call at a time, on the simulation's clock."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import redis
from redis.exceptions import ResponseError

from core.functions import library_source
from tests.servers import SERVERS, running

_CLOCK_LUA: Final = Path(__file__).with_name("clock.lua")
_EPOCH_MS: Final = (
    1_500_000_000_000  # Far before the server's own clock, so that idle times are old.
)
_TICK_MS: Final = (
    20  # Coarser than a script takes, as XAUTOCLAIM looks at the server's clock again.
)


class Answer(NamedTuple):
    """What a call came to: its reply or Redis's error, and what it did besides."""

    reply: Any
    written: Sequence[tuple[bytes, bytes, list[bytes]]] = ()  # Log, entry id and fields.
    bells: Sequence[tuple[bytes, bytes]] = ()  # Channel and message.
    chunks: Sequence[tuple[bytes, bytes, bytes]] = ()  # Output stream, entry id and data.
    thefts: Sequence[Sequence[bytes]] = ()  # Lane, entry, from whom, by whom.


class Server:
    """Executes commands at once. Functions see the time that they are called with."""

    def __init__(self, socket: Path) -> None:
        self._redis = redis.Redis(unix_socket_path=str(socket), protocol=2)
        pool = self._redis.connection_pool
        self._connection = pool.get_connection()
        self._callbacks = self._redis.response_callbacks

    def load(self) -> None:
        """Load the library, with the simulation's clock before it."""
        shebang, library = library_source().split("\n", 1)
        source = "\n".join((shebang, _CLOCK_LUA.read_text("utf-8"), library))
        self._redis.function_load(source, replace=True)

    def empty(self) -> None:
        self._redis.flushall()

    def close(self) -> None:
        self._redis.connection_pool.release(self._connection)
        self._redis.close()

    def execute(self, seconds: float, args: Sequence[Any], **options: Any) -> Answer:
        """Run one command now. Redis's refusal is the reply."""
        if args[0] == "FCALL":
            return self._call_function(seconds, args)
        try:
            self._connection.send_command(*args)
            reply = self._connection.read_response()
        except ResponseError as error:
            return Answer(error)
        if args[0] == "SMEMBERS":
            return Answer(sorted(reply))  # Redis's own order changes from server to server.
        options.pop("keys", None)  # redis-py's own, for its cache.
        callback = self._callbacks.get(args[0])
        return Answer(callback(reply, **options) if callback else reply)

    def _call_function(self, seconds: float, args: Sequence[Any]) -> Answer:
        try:
            self._connection.send_command(*args, clock_ms(seconds))
            answer = Answer(*self._connection.read_response())
        except ResponseError as error:
            return Answer(error)
        if args[1].endswith("_roster"):
            answer.reply.sort(key=lambda row: row[0])
        return answer


def clock_ms(seconds: float) -> int:
    """Redis's clock at that time of the loop."""
    return _EPOCH_MS + round(seconds * 1_000) // _TICK_MS * _TICK_MS


@contextmanager
def simulated(kind: str) -> Iterator[Server]:
    """A server of that kind, for the simulation alone. It is killed when the block ends."""
    with tempfile.TemporaryDirectory(prefix="respool-simulation-") as folder:
        socket = Path(folder) / "socket"
        with running(SERVERS[kind](Path(folder), "--unixsocket", str(socket))):
            server = Server(socket)
            server.load()
            yield server
            server.close()
