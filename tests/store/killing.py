"""A client of Redis whose process is killed once it has sent so many commands: nothing follows, not even a word."""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import Connection

from core.redis import connect


class Killed(BaseException):
    """It would have ended here."""


class KilledInATask(Exception):
    """The same, for work in several tasks: whoever waits for one of them hears of it."""


class Mortal:
    """A client that lives for a number of commands, pipelines counting as one."""

    def __init__(
        self, url: str, commands: int, killed: type[Killed | KilledInATask] = Killed
    ) -> None:
        self.client: Redis = connect(url)
        self.left = commands
        mortal = self
        pool: Any = self.client.connection_pool
        kind: type[Connection] = pool.connection_class

        class _Connection(kind):  # type: ignore[misc, valid-type]
            async def send_packed_command(self, *args: Any, **options: Any) -> None:
                mortal.left -= 1
                if mortal.left < 0:
                    raise killed
                await super().send_packed_command(*args, **options)

            async def read_response(self, *args: Any, **options: Any) -> Any:
                if mortal.left < 1:  # What was sent is carried out, and nobody hears of it.
                    raise killed
                return await super().read_response(*args, **options)

        pool.connection_class = _Connection

    async def bury(self) -> None:
        """Close its connections, as the system does for a process that is gone."""
        await self.client.connection_pool.disconnect(inuse_connections=True)

    @property
    def is_dead(self) -> bool:
        return self.left < 1
