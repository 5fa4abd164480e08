"""Timers: due times in one sorted set a shard, fired by whichever process is first.

Firing is a command like any other, so the version check makes it happen once. A timer that the domain
refuses is dropped, unless it has been set anew meanwhile.
"""

import asyncio
import logging
from typing import Final

from core import functions
from core.commands import Command, Enqueue, Expire
from core.effects import Timer
from core.errors import Conflict, FromTheFuture, StoreError
from core.head import head_of
from core.job import CommandRefused, decide
from core.keys import ShardKeys
from core.store import EventStore

log = logging.getLogger(__name__)

SLEEP_MAX_SECONDS: Final = (
    0.1  # A timer that is set meanwhile may be due earlier than the next known.
)
_BATCH: Final = 200
_AFTER_ERROR_SECONDS: Final = 1.0

_COMMANDS: Final[dict[str, Command]] = {Timer.DUE: Enqueue(), Timer.DEADLINE: Expire()}


async def run_timers(store: EventStore) -> None:
    """Fire timers for ever."""
    while True:
        try:
            sleep_seconds = await fire_due(store)
        except StoreError as error:
            log.warning("timers wait: %s", error)
            sleep_seconds = _AFTER_ERROR_SECONDS
        await asyncio.sleep(sleep_seconds)


async def fire_due(store: EventStore) -> float:
    """Fire what is due; the seconds to sleep before looking again. Raises StoreUnavailable."""
    sleep_seconds = SLEEP_MAX_SECONDS
    for keys in store.shards:
        ask = {"limit": _BATCH, "prefix": keys.prefix}
        next_ms, *rows = await functions.call(store.client, "due", [keys.timers], ask)
        await asyncio.gather(*(_fire(store, keys, *row) for row in rows))
        if len(rows) == _BATCH:
            sleep_seconds = 0.0
        elif next_ms >= 0:
            sleep_seconds = min(sleep_seconds, next_ms / 1_000)
    return sleep_seconds


async def _fire(
    store: EventStore, keys: ShardKeys, member: bytes, score: bytes, flat: list[bytes]
) -> None:
    job_id, _, timer = member.decode().partition(":")
    try:
        head = head_of(flat)
        if head is not None:
            await store.append(job_id, head.job, decide(head.job, _COMMANDS[timer]))
            return
    except FromTheFuture as error:
        log.error("timer %s of job %s is left to a newer release: %s", timer, job_id, error)
        return
    except Conflict:
        return  # The job has moved on; if the timer still stands, the next round sees it.
    except CommandRefused:
        log.debug("timer %s of job %s came to nothing", timer, job_id)
    await functions.call(
        store.client, "drop", [keys.timers], {"member": member.decode(), "score": score.decode()}
    )
