"""How far Redis has synced its log to disk: what came after that, a power cut may still take.

With `appendfsync always` whatever it answers is synced. With `everysec` it is a matter of time, as what it
says of itself (INFO) is about the whole file: a look is covered once another one, some seconds later, finds
nothing that is still to be written or synced. Redis writes at the latest two seconds after it answered, and
begins a sync every second (`aof.c`: flushAppendOnlyFile). WAITAOF would say it sooner and cannot be relied on
there, see `core/persistence.py`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from core.errors import StoreNotReady
from core.nodes import primaries
from core.redis import answering

EVERYSEC_SECONDS: Final = 5.0
_FSYNC: Final = "appendfsync"
_ON_REWRITE: Final = "no-appendfsync-on-rewrite"


class _Look(Struct, frozen=True):
    """The last entry of each shard at a moment, by our own monotonic clock."""

    at_seconds: float
    ends: Sequence[str]


class Synced:
    """Watches one Redis."""

    def __init__(self, client: Redis, logs: Sequence[str]) -> None:
        """`logs` are the keys of all shards' logs."""
        self._client = client
        self._logs = logs
        self._waiting: _Look | None = None
        self._ends: Sequence[str] = ["0-0"] * len(logs)

    async def ends(self) -> Sequence[str]:
        """For each log an entry up to which it is on disk; later looks know of more.

        Raises StoreNotReady for a Redis that never says so, StoreUnavailable.
        """
        async with answering():
            nodes = await primaries(self._client)
        asked = [await _asked(node) for node in nodes]
        if not all(info.get("aof_enabled") for info, _ in asked):
            raise StoreNotReady(
                "Redis has appendonly no, so nothing is ever on disk: set appendonly yes"
            )
        if any(config.get(_FSYNC) == "no" for _, config in asked):
            raise StoreNotReady(
                "Redis has appendfsync no, so nobody knows what is on disk: set everysec"
            )
        now = asyncio.get_running_loop().time()
        if all(
            config.get(_FSYNC) == "always" and config.get(_ON_REWRITE) == "no"
            for _, config in asked
        ):
            self._ends = await self._last()
        elif self._waiting is None:
            self._waiting = _Look(now, await self._last())
        elif now - self._waiting.at_seconds >= EVERYSEC_SECONDS and all(
            _is_through(info, config) for info, config in asked
        ):
            self._ends, self._waiting = self._waiting.ends, _Look(now, await self._last())
        return self._ends

    async def _last(self) -> list[str]:
        async with answering(), self._client.pipeline(transaction=False) as pipe:
            for log in self._logs:
                pipe.execute_command("XREVRANGE", log, "+", "-", "COUNT", 1)
            found = await pipe.execute()
        return [entries[0][0].decode() if entries else "0-0" for entries in found]


async def _asked(node: Redis) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    async with answering():
        info = await node.info("persistence")
        try:
            config = await node.execute_command("CONFIG GET", _FSYNC, _ON_REWRITE)
        except NoPermissionError:
            config = {}
        except ResponseError as error:
            if "unknown command" not in str(error):
                raise
            config = {}
    return info, config


def _is_through(info: Mapping[str, Any], config: Mapping[str, str]) -> bool:
    """Say whether nothing is left to be written or synced of what there was some seconds ago."""
    is_rewriting = info.get("aof_rewrite_in_progress") or info.get("rdb_bgsave_in_progress")
    if is_rewriting and config.get(_ON_REWRITE) != "no":
        return False
    return (
        info.get("aof_last_write_status", "ok") == "ok"
        and not info.get("aof_pending_bio_fsync")
        and not info.get("aof_buffer_length")
    )
