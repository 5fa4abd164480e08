"""Timers: due times in one sorted set a shard, fired by whichever process is first.

Firing is a command like any other, so the version check makes it happen once. A timer that the domain
refuses is dropped, unless it has been set anew meanwhile. One that this release cannot fire is passed
over: it stays for another, hides nothing that is due after it, and is looked at again once a second.
"""

import asyncio
import logging
from typing import Final

from core import functions
from core.commands import Command, Enqueue, Expire
from core.effects import Timer
from core.errors import Conflict, FromTheFuture, StoreError, StoreUnavailable
from core.head import head_of
from core.job import CommandRefused, decide
from core.keys import ShardKeys
from core.store import EventStore
from core.trouble import Trouble

log = logging.getLogger(__name__)

SLEEP_MAX_SECONDS: Final = (
    0.1  # A timer that is set meanwhile may be due earlier than the next known.
)
BATCH: Final = 200
_LOOK_AGAIN_SECONDS: Final = 1.0
_AFTER_ERROR_SECONDS: Final = 1.0

_COMMANDS: Final[dict[str, Command]] = {Timer.DUE: Enqueue(), Timer.DEADLINE: Expire()}


async def run_timers(store: EventStore) -> None:
    """Fire a store's timers for ever."""
    timers, trouble = Timers(store), Trouble(log, "timers wait")
    while True:
        try:
            sleep_seconds = await timers.fire_due()
            trouble.is_over()
        except StoreError as error:
            trouble.is_there(error)
            sleep_seconds = _AFTER_ERROR_SECONDS
        await asyncio.sleep(sleep_seconds)


class Timers:
    """One process's part in firing a store's timers."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        # How many due timers of each shard are passed over. They are the first ones, once all others
        # that were due have been fired.
        self._passed_over = [0] * len(store.shards)
        self._look_again_at = float("-inf")
        self._said: str | None = None  # Trouble is said once, not at every look.

    async def fire_due(self) -> float:
        """Fire one batch of each shard; the seconds to sleep before the next. Raises StoreUnavailable."""
        now = asyncio.get_running_loop().time()
        if now >= self._look_again_at:
            self._passed_over = [0] * len(self._store.shards)
            self._look_again_at = now + _LOOK_AGAIN_SECONDS
        return min(await asyncio.gather(*map(self._fire_batch, self._store.shards)))

    async def _fire_batch(self, keys: ShardKeys) -> float:
        skip = self._passed_over[keys.shard]
        ask = {"limit": BATCH, "skip": skip, "prefix": keys.prefix}
        next_ms, *rows = await functions.call(self._store.client, "due", [keys.timers], ask)
        outcomes = await asyncio.gather(*(_fire(self._store, keys, *row) for row in rows))
        troubles = [trouble for trouble in outcomes if trouble is not None]
        self._passed_over[keys.shard] = skip + len(troubles)
        if troubles and not skip and troubles[0] != self._said:
            self._said = troubles[0]
            log.error("%d timers passed over; the first: %s", len(troubles), self._said)
        if len(rows) == BATCH:
            return 0.0
        return min(SLEEP_MAX_SECONDS, next_ms / 1_000) if next_ms >= 0 else SLEEP_MAX_SECONDS


async def _fire(
    store: EventStore, keys: ShardKeys, member: bytes, score: bytes, flat: list[bytes]
) -> str | None:
    """Fire a timer, or drop it; if neither can be, why not. Raises StoreUnavailable."""
    job_id, _, timer = member.decode().partition(":")
    try:
        head = head_of(flat)
        if head is not None:
            await store.append(job_id, head.job, decide(head.job, _command(timer)))
            return None
    except StoreUnavailable:
        raise
    except StoreError as error:
        return f"{timer} of job {job_id}: {error}"
    except Conflict:
        return None  # The job has moved on; if the timer still stands, the next look sees it.
    except CommandRefused:
        log.debug("timer %s of job %s came to nothing", timer, job_id)
    await functions.call(
        store.client, "drop", [keys.timers], {"member": member.decode(), "score": score.decode()}
    )
    return None


def _command(timer: str) -> Command:
    if timer not in _COMMANDS:
        raise FromTheFuture(f"this release knows no timer {timer!r}: upgrade it")
    return _COMMANDS[timer]
