"""When a write is acknowledged: DURABILITY=everysec|always|replicated.

    everysec    once Redis has it; it syncs its file once a second
    always      once Redis has synced it to disk
    replicated  once it has, and a replica has too (without WAITAOF: has it in memory)

The last two wait, after an append was answered, for a **round**: a small write, then WAITAOF or WAIT on
the same connection, so that it covers all that was written before. Rounds run one at a time; whoever
comes meanwhile shares the next one. So an append that was sent again after a lost reply, and wrote
nothing the second time, is covered as well; and a round costs the same for one caller as for hundreds.

One connection serves all shards, as they are on one server. In a Redis Cluster each shard has rounds of its
own, on the node that has it.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Struct
from redis.asyncio import Redis

from core import functions
from core.errors import NotDurable, StoreError, StoreUnavailable
from core.keys import ShardKeys
from core.persistence import CONFIG_GET, Capabilities, complaint
from core.redis import answering

log = logging.getLogger(__name__)

ROUND_ITEMS_MAX: Final = 1_000
WAITING_MAX: Final = 20_000
_ROUND_SECONDS_MAX: Final = 2.0  # Less than core.redis.REPLY_TIMEOUT_SECONDS.
_SETTLING_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 0.1  # Between a round that came to nothing and the next.
_ASK_FIRST_MS: Final = 5
_UNANSWERED: Final = "Redis has not said so yet"
_LOST: Final = (
    "it was written, and is gone again: Redis failed over or restarted before it was durable; "
    "send it again under the same Idempotency-Key"
)


class Durability(StrEnum):
    """What has to have happened to a submission or an ending before it is acknowledged."""

    EVERYSEC = "everysec"
    ALWAYS = "always"
    REPLICATED = "replicated"


class Written(Struct, frozen=True):
    """What an append was answered with: a version of a head, and its log entry where that is known."""

    shard: int
    head: str
    version: int
    log_id: str | None


class Barrier(Protocol):
    """Stands between an append's answer and its acknowledgement."""

    async def confirm(self, written: Written) -> None:
        """Return once it is as durable as was asked for. Raises NotDurable; the write stands."""


class NoBarrier:
    """`everysec`: the answer is the acknowledgement."""

    async def confirm(self, written: Written) -> None:
        """Return at once."""


class _Waiting(NamedTuple):
    written: Written
    confirmed: asyncio.Future[None]


class Rounds:
    """`always` and `replicated`, for any number of tasks of one event loop."""

    def __init__(
        self, client: Redis, capabilities: Capabilities, replicas: int, patience_seconds: float
    ) -> None:
        self._client = client
        self._capabilities = capabilities
        self._replicas = replicas
        self._patience_seconds = patience_seconds
        # Short enough that a caller hears why a round came to nothing before its patience is over.
        self._round_ms = round(1_000 * min(_ROUND_SECONDS_MAX, 0.5 * patience_seconds))
        self._waiting: list[_Waiting] = []
        self._running: asyncio.Task[None] | None = None
        self._trouble = _UNANSWERED

    async def confirm(self, written: Written) -> None:
        """Return after a round that began after this call. Raises NotDurable."""
        if len(self._waiting) >= WAITING_MAX:
            raise NotDurable(
                f"written, but not confirmed as durable: {WAITING_MAX} calls wait for that already"
            )
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(written, confirmed))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(self._patience_seconds):
                await confirmed
        except TimeoutError as error:
            raise NotDurable(
                "written, but not confirmed as durable within "
                f"{self._patience_seconds:g} s: {self._trouble}"
            ) from error

    async def _run(self) -> None:
        # One turn of the loop, so that tasks which woke together share a round.
        await asyncio.sleep(0)
        while self._waiting:
            taken, self._waiting = (
                self._waiting[:ROUND_ITEMS_MAX],
                self._waiting[ROUND_ITEMS_MAX:],
            )
            still = [one for one in taken if not one.confirmed.done()]
            if still and not await self._settle(still):
                self._waiting[:0] = still
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _settle(self, waiting: list[_Waiting]) -> bool:
        """Run one round; False if all of them have to wait for another one."""
        try:
            is_there = await self._round([one.written for one in waiting])
        except StoreUnavailable as error:
            self._trouble = str(error)
            return False
        except Exception as error:  # noqa: BLE001 - whoever waits for the round raises it.
            for one in waiting:
                _fail(one, f"written, but not confirmed as durable: {error}", error)
            return True
        self._trouble = _UNANSWERED
        for one, found in zip(waiting, is_there, strict=True):
            if not found:
                _fail(one, _LOST)
            elif not one.confirmed.done():
                one.confirmed.set_result(None)
        return True

    async def _round(self, written: Sequence[Written]) -> list[bool]:
        """For each whether it is there, now that all there is is durable.

        Raises StoreUnavailable if another round may come to more, StoreError if none will.
        """
        shards = sorted({one.shard for one in written})
        commands = [_touch(shard, written) for shard in shards]
        if self._capabilities.shows_config:
            commands.append(CONFIG_GET)  # It may have been changed since we started.
        if self._capabilities.has_waitaof:
            commands += [("WAITAOF", 1, self._replicas, ms) for ms in self._asking_ms()]
        elif self._replicas:
            commands.append(("WAIT", self._replicas, self._round_ms))
        replies = await self._answers(commands)
        self._check(replies[len(shards) :])
        found = {shard: iter(reply) for shard, reply in zip(shards, replies, strict=False)}
        return [next(found[one.shard]) == 1 for one in written]

    async def _answers(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """The replies to a round's commands.

        The timers of a Redis at rest are up to 100 ms late, and any command wakes it; so it is pinged,
        on another connection, when an answer to WAITAOF is due.
        """
        answers = asyncio.create_task(functions.pipeline(self._client, commands))
        _, _, _, woken, *_ = commands[0]  # A key on the server that is asked.
        for ms in self._asking_ms():
            done, _ = await asyncio.wait((answers,), timeout=(ms + 1) / 1_000)
            if done:
                break
            with suppress(StoreError):
                async with answering():
                    await self._client.exists(woken)
        return await answers

    def _asking_ms(self) -> list[int]:
        """How long to wait for each of the answers to WAITAOF, which are asked for in one go.

        A replica says how far it has synced when it is asked, which WAITAOF does, and once a second.
        Asked right after the write it has not synced yet, so it is asked again soon, and ever later;
        once it has, what is still to be asked is answered at once.
        """
        if not self._replicas:
            return [self._round_ms]
        asking: list[int] = []
        while left_ms := self._round_ms - sum(asking):
            asking.append(min(left_ms, _ASK_FIRST_MS << len(asking)))
        return asking

    def _check(self, replies: list[Any]) -> None:
        """Raises StoreError for the wrong settings, StoreUnavailable for too small a count."""
        if self._capabilities.shows_config:
            wrong = complaint(replies[0])
            if wrong is not None:
                raise StoreError(wrong)
        if self._capabilities.has_waitaof:
            synced, replicas = replies[-1]
            if synced < 1:
                raise StoreUnavailable("Redis has not synced it to disk")
        else:
            replicas = replies[-1] if self._replicas else 0
        if replicas < self._replicas:
            done = "have synced" if self._capabilities.has_waitaof else "have"
            raise StoreUnavailable(
                f"{replicas} replicas {done} it, and it takes {self._replicas}: "
                "one has to be connected, with appendonly yes and appendfsync always"
            )


class OfEachShard:
    """A barrier for each shard: shards are on different servers, and what one of them synced is its own."""

    def __init__(self, make: Callable[[], Barrier]) -> None:
        self._make = make
        self._barriers: dict[int, Barrier] = {}

    async def confirm(self, written: Written) -> None:
        """As its shard's barrier does."""
        if written.shard not in self._barriers:
            self._barriers[written.shard] = self._make()
        await self._barriers[written.shard].confirm(written)


class InBackground:
    """For a process that nobody waits for: it goes on, and says what was not confirmed in time."""

    def __init__(self, barrier: Barrier) -> None:
        self._barrier = barrier
        self._tasks: set[asyncio.Task[None]] = set()  # Kept, as the loop itself would not.

    async def confirm(self, written: Written) -> None:
        """Begin to confirm, and return."""
        task = asyncio.create_task(self._watch(written))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Wait for what was begun, but not for long: its process is to end."""
        if self._tasks:
            _, unconfirmed = await asyncio.wait(self._tasks, timeout=_SETTLING_SECONDS)
            if unconfirmed:
                log.warning("%d endings stand, and are not confirmed as durable", len(unconfirmed))
            for task in unconfirmed:
                task.cancel()

    async def _watch(self, written: Written) -> None:
        try:
            await self._barrier.confirm(written)
        except NotDurable as error:
            log.warning("%s, version %d: %s", written.head, written.version, error)


def _touch(shard: int, written: Sequence[Written]) -> tuple[Any, ...]:
    mine = [one for one in written if one.shard == shard]
    keys = [ShardKeys(shard).synced, *(one.head for one in mine)]
    ask = {"written": [(one.version, one.log_id or "") for one in mine]}
    return functions.command("touch", keys, ask)


def _fail(waiting: _Waiting, message: str, cause: Exception | None = None) -> None:
    if not waiting.confirmed.done():
        error = NotDurable(message)
        error.__cause__ = cause
        waiting.confirmed.set_exception(error)
