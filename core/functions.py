"""The Lua that runs inside Redis: one library of functions, under a name with its version.

A release that changes the Lua raises VERSION and adds a migration, so that the functions of two
releases stand side by side during a rolling upgrade, and no running process sees its code change.
"""

from importlib.resources import files
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from core.errors import StoreNotReady
from core.redis import answering

VERSION: Final = 2
LIBRARY: Final = f"respool_{VERSION}"
_PARTS: Final = ("prelude", "append", "claim", "lease", "recover", "timers", "view", "fleet")

_encoder = msgspec.msgpack.Encoder()


def library_source() -> str:
    """The library's whole text, as FUNCTION LOAD takes it."""
    folder = files("core") / "lua"
    parts = [(folder / f"{part}.lua").read_text("utf-8") for part in _PARTS]
    return "\n".join((f"#!lua name={LIBRARY}", f"local LIBRARY = '{LIBRARY}'", *parts))


async def call(
    client: Redis, name: str, keys: list[str], ask: object, bodies: list[bytes] | None = None
) -> Any:
    """Call a function: `ask` becomes ARGV[1], and `bodies` follow as they are.

    Raises StoreUnavailable if Redis does not answer, StoreNotReady if the function is not there.
    """
    async with answering():
        try:
            return await client.execute_command(
                "FCALL",
                f"{LIBRARY}_{name}",
                len(keys),
                *keys,
                _encoder.encode(ask),
                *(bodies or ()),
            )
        except ResponseError as error:
            if "Function not found" in str(error):
                raise StoreNotReady(
                    f"the store lacks the functions of this release ({LIBRARY}): run `respool migrate`"
                ) from error
            raise
