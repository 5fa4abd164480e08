"""The Lua that runs inside Redis: one library of functions, under a name with its version.

A release that changes the Lua raises VERSION and adds a migration, so that the functions of two
releases stand side by side during a rolling upgrade, and no running process sees its code change.
"""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from core.errors import StoreNotReady
from core.redis import answering

VERSION: Final = 7
LIBRARY: Final = f"respool_{VERSION}"
_PARTS: Final = (
    "prelude",
    "append",
    "claim",
    "lease",
    "recover",
    "sync",
    "tail",
    "timers",
    "view",
    "fleet",
    "project",
    "generations",
    "views",
    "seen",
    "mend",
    "keys",
    "archive",
    "forget",
)

_encoder = msgspec.msgpack.Encoder()


def library_source() -> str:
    """The library's whole text, as FUNCTION LOAD takes it."""
    folder = files("core") / "lua"
    parts = [(folder / f"{part}.lua").read_text("utf-8") for part in _PARTS]
    return "\n".join((f"#!lua name={LIBRARY}", f"local LIBRARY = '{LIBRARY}'", *parts))


def command(
    name: str, keys: Sequence[str], ask: object, bodies: Sequence[bytes] = ()
) -> tuple[Any, ...]:
    """The command that calls a function: `ask` becomes ARGV[1], and `bodies` follow as they are."""
    return ("FCALL", f"{LIBRARY}_{name}", len(keys), *keys, _encoder.encode(ask), *bodies)


async def call(
    client: Redis, name: str, keys: list[str], ask: object, bodies: list[bytes] | None = None
) -> Any:
    """Call a function.

    Raises StoreUnavailable if Redis does not answer, StoreNotReady if the function is not there.
    """
    async with answering():
        try:
            return await client.execute_command(*command(name, keys, ask, bodies or ()))
        except ResponseError as error:
            raise _translated(error) from error


async def pipeline(client: Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Send commands in order on one connection; their replies.

    Raises for the first one that failed, as `call` does. The others were carried out all the same.
    """
    async with answering():
        async with client.pipeline(transaction=False) as pipe:
            for one in commands:
                pipe.execute_command(*one)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise _translated(reply) from reply
            if isinstance(reply, Exception):
                raise reply
    return replies


def _translated(error: ResponseError) -> Exception:
    if "Function not found" not in str(error):
        return error
    return StoreNotReady(
        f"the store lacks the functions of this release ({LIBRARY}): run `respool migrate`"
    )
