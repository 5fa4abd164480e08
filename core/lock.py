"""A lock that one process holds while it migrates, or repairs, the store.

It expires by itself, and is renewed while the work goes on.

So one that was killed blocks the next try for as long as the lock still lasts, and no longer; and one
that was frozen, or cut off from Redis, stops once it is no longer sure of its lock.
"""

import asyncio
import math
import os
import platform
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from msgspec import Struct
from redis.asyncio import Redis

from core.errors import StoreError, StoreUnavailable
from core.keys import MIGRATION_LOCK, REPAIR_LOCK
from core.redis import answering

LOCK_MS: Final = 30_000
_POLL_SECONDS: Final = 0.2

# Compare and delete, compare and expire: Redis 7 has no command for either. They are scripts, and not
# functions of the library, as the lock is taken before that is loaded.
_UNLOCK: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
_RENEW: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""

Result = TypeVar("Result")


class Lock(Struct, frozen=True):
    """What only one process at a time does to a store."""

    key: str
    doing: str


MIGRATING: Final = Lock(MIGRATION_LOCK, "migrating")
REPAIRING: Final = Lock(REPAIR_LOCK, "repairing")


async def while_locked(
    client: Redis,
    lock: Lock,
    work: Callable[[], Awaitable[Result]],
    wait_seconds: float,
    waiting: Callable[[str], None],
) -> Result:
    """Do the work while nobody else does, waiting for the lock at most so long.

    `waiting` hears whom for. Raises StoreUnavailable if the lock was held for too long, or was lost: the
    work is cancelled then.
    """
    token = f"{secrets.token_hex(8)} {os.getpid()} {platform.node() or 'localhost'}"
    await _take(client, lock, token, wait_seconds, waiting)
    working = asyncio.ensure_future(work())
    keeping = asyncio.create_task(_keep(client, lock, token))
    try:
        await asyncio.wait((working, keeping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise StoreUnavailable(
            f"the lock for {lock.doing} the store was lost, as Redis was away for too long or has "
            "forgotten it; so it stopped. Run it again: it goes on where it was"
        )
    finally:
        working.cancel()
        keeping.cancel()
        await asyncio.gather(working, keeping, return_exceptions=True)
        with suppress(StoreError):  # Else it expires.
            async with answering():
                await client.eval(_UNLOCK, 1, lock.key, token)


async def _take(
    client: Redis, lock: Lock, token: str, wait_seconds: float, waiting: Callable[[str], None]
) -> None:
    loop = asyncio.get_running_loop()
    until, said = loop.time() + wait_seconds, ""
    while True:
        async with answering():
            held = await client.set(lock.key, token, nx=True, px=LOCK_MS, get=True)
        if held is None:
            return
        holder = _holder(held)
        if loop.time() >= until:
            raise StoreUnavailable(
                f"{holder} is {lock.doing} the store; try again once it is through"
            )
        if holder != said:
            waiting(holder)
            said = holder
        await asyncio.sleep(_POLL_SECONDS)


def _holder(token: object) -> str:
    """Who holds the lock, in words. Earlier releases did not say."""
    text = token.decode(errors="replace") if isinstance(token, bytes) else str(token)
    match text.split(" ", 2):
        case [_, pid, host]:
            return f"process {pid} on {host}"
        case _:
            return "another process"


async def _keep(client: Redis, lock: Lock, token: str) -> None:
    """Renew the lock; return once it is lost, or may be."""
    loop = asyncio.get_running_loop()
    sure_until = loop.time() + LOCK_MS / 1_000
    while loop.time() < sure_until:
        await asyncio.sleep(LOCK_MS / 3_000)
        asked = loop.time()
        try:
            async with asyncio.timeout(max(0.0, sure_until - asked)), answering():
                is_ours = await client.eval(_RENEW, 1, lock.key, token, str(LOCK_MS))
        except (StoreError, TimeoutError):
            continue
        if not is_ours:
            return
        sure_until = asked + LOCK_MS / 1_000


FOR_AS_LONG_AS_IT_IS_HELD: Final = math.inf
