"""Brings a store up to this release, whoever else tries at the same time: one works, the others wait.

Each step is idempotent, or goes on from where it was; so a run that was killed is run again.
"""

import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct
from redis.asyncio import Redis

from core import functions
from core.archive import Archive
from core.errors import FromTheFuture, StoreError, StoreNotReady
from core.ids import SHARDS_MAX
from core.keys import META
from core.lock import FOR_AS_LONG_AS_IT_IS_HELD, MIGRATING, while_locked
from core.nodes import primaries
from core.records import Bounds
from core.redis import answering
from core.store import EventStore
from migrations.plan import MIGRATIONS, Kind, Step, plan, required, shards_of
from projections.building import Progress, build
from projections.checkpoint import LostTail
from projections.feed import Gap
from projections.rows import Unfoldable


class CannotFold(StoreError):
    """The views cannot be folded from the log; the message says what, where, and what to do."""


class Waiting(Struct, frozen=True):
    """Somebody else migrates the store."""

    holder: str


class Begun(Struct, frozen=True):
    """A step is being taken."""

    step: Step


class Done(Struct, frozen=True):
    """A step was taken."""

    step: Step
    seconds: float


Event = Waiting | Begun | Progress | Done
Told = Callable[[Event], None]

_USUAL: Final = Bounds()


async def migrate(
    client: Redis,
    shards: int = 1,
    wait_seconds: float = FOR_AS_LONG_AS_IT_IS_HELD,
    told: Told = lambda _: None,
    bounds: Bounds = _USUAL,
    *,
    strict: bool = True,
    archive: Archive | None = None,
) -> list[Step]:
    """Apply what the store lacks, and say what that was.

    `shards` counts for a new store only: an existing one keeps its own. `bounds` says how far back views
    reach, and how full they may make Redis; `archive` has what was trimmed of the log. Unless it is strict, what cannot be folded is left out of the
    views. `told` hears how it goes. Raises
    StoreUnavailable if Redis does not answer, another process holds the lock for longer than
    `wait_seconds`, or ours was lost; StoreNotReady for the store of a newer release; CannotFold.
    """
    if not 1 <= shards <= SHARDS_MAX:
        raise ValueError(f"a store has 1 to {SHARDS_MAX} shards, not {shards}")
    if not await plan(client):
        return []  # And no lock: a full Redis would refuse it.

    async def apply(step: Step) -> None:
        match step.kind:
            case Kind.MIGRATION:
                await _number(client, step, shards)
            case Kind.FUNCTIONS:
                await load_functions(client)
            case Kind.VIEWS:
                store = EventStore(client, await shards_of(client), bounds, archive=archive)
                await _build(store, told, strict=strict)

    async def work() -> list[Step]:
        steps = await plan(client)  # Anew: another process may have done it meanwhile.
        for step in steps:
            told(Begun(step))
            began = time.perf_counter()
            await apply(step)
            told(Done(step, time.perf_counter() - began))
        return steps

    return await while_locked(
        client, MIGRATING, work, wait_seconds, lambda holder: told(Waiting(holder))
    )


async def shard_count(client: Redis) -> int:
    """How many shards the store was made with.

    Raises StoreNotReady if it lacks what every process needs. That it lacks views concerns only who
    reads them: jobs go on while they are built.
    """
    if await required(client):
        raise StoreNotReady("the store lacks migrations: run `respool migrate`")
    return await shards_of(client)


async def load_functions(client: Redis) -> None:
    """Load this release's library, beside those of others. Raises StoreUnavailable."""
    async with answering():
        source = functions.library_source()
        for node in await primaries(client):
            await node.execute_command("FUNCTION", "LOAD", "REPLACE", source)


async def _number(client: Redis, step: Step, shards: int) -> None:
    migration = next(one for one in MIGRATIONS if one.number == step.number)
    async with answering():
        await migration.apply(client, shards)
        await client.hset(META, "migration", str(migration.number))


async def _build(store: EventStore, told: Told, *, strict: bool) -> None:
    still = "What served before still does, and jobs go on"
    try:
        await build(store, told, strict=strict)
    except FromTheFuture as error:
        raise FromTheFuture(
            f"the views cannot be built, as a newer release has written to the log: {error}. {still}"
        ) from error
    except Unfoldable as error:
        raise CannotFold(
            f"the views cannot be folded from the log: {error}. {still}. `respool replay verify` names "
            "everything like it; `respool migrate --park` builds the views and leaves those subjects out"
        ) from error
    except (Gap, LostTail) as error:
        raise CannotFold(
            f"the views cannot be folded from the log: {error}. {still}. `respool replay verify` names all "
            "that is missing; `respool replay repair --accept-gaps` takes it for gone, and then this is "
            "run again"
        ) from error
