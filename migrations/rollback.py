"""Takes a store back to an earlier migration, so that an earlier release starts on it again.

What is undone is undone in reverse order, and each undoing can be run again after a kill. The function
library stays: its functions stand beside those of other releases, and a process of this release that
still runs needs them.
"""

import time
from collections.abc import Iterable
from typing import Any, Final

from redis.asyncio import Redis

from core.errors import StoreError, StoreNotReady
from core.keys import META, ShardKeys
from core.lock import FOR_AS_LONG_AS_IT_IS_HELD, MIGRATING, while_locked
from core.redis import answering
from migrations.plan import MIGRATIONS, Kind, Migration, Step, applied, shards_of
from migrations.runner import Begun, Done, Told, Waiting, load_functions

_READ_AT_ONCE: Final = 1_000
_OVER: Final = frozenset((b"completed", b"failed", b"cancelled", b"expired", b"stopped", b"lost"))


class CannotUndo(StoreError):
    """The store cannot be taken back that far; nothing was changed."""


async def plan_rollback(client: Redis, to: int) -> list[Step]:
    """What would be undone to leave migration `to` as the last one, in order.

    It changes nothing, and reads the whole log. Raises CannotUndo, StoreNotReady, StoreUnavailable.
    """
    steps = _undoing(await applied(client), to)
    if steps:
        await _require_readable(client, steps)
    return [Step(Kind.MIGRATION, one.name, one.number) for one in steps]


async def roll_back(
    client: Redis,
    to: int,
    wait_seconds: float = FOR_AS_LONG_AS_IT_IS_HELD,
    told: Told = lambda _: None,
) -> list[Step]:
    """Undo what comes after migration `to`, and say what that was.

    Raises CannotUndo before anything is changed, and what `migrations.runner.migrate` raises.
    """

    async def work() -> list[Step]:
        steps = await plan_rollback(client, to)
        if (
            steps
        ):  # What is undone is undone with this release's functions, and a restored dump has none.
            await load_functions(client)
        for step in steps:
            told(Begun(step))
            began = time.perf_counter()
            migration = next(one for one in MIGRATIONS if one.number == step.number)
            if migration.undo is not None:
                await migration.undo(client)
            async with answering():
                await client.hset(META, "migration", str(migration.number - 1))
            told(Done(step, time.perf_counter() - began))
        return steps

    return await while_locked(
        client, MIGRATING, work, wait_seconds, lambda holder: told(Waiting(holder))
    )


def _undoing(last: int, to: int) -> list[Migration]:
    """The migrations to undo, the last one first. Raises CannotUndo, StoreNotReady."""
    newest = MIGRATIONS[-1].number
    if last > newest:
        raise StoreNotReady(
            f"the store has migration {last}, and this release knows up to {newest}: only a newer release "
            "knows how to undo it"
        )
    if to > last:
        raise CannotUndo(f"the store has migration {last}: there is nothing to undo down to {to}")
    steps = [one for one in reversed(MIGRATIONS) if to < one.number <= last]
    for one in steps:
        if one.undo is None:
            raise CannotUndo(
                f"migration {one.number} ({one.name}) cannot be undone; the lowest that the store can go "
                f"back to is {one.number}"
            )
    return steps


async def _require_readable(client: Redis, steps: Iterable[Migration]) -> None:
    """Raises CannotUndo if anything was written that releases without these migrations cannot read."""
    to = min(one.number for one in steps) - 1
    readable = next(one.schema for one in MIGRATIONS if one.number == to)
    for shard in range(await shards_of(client)):
        newest = await _newest_schema(client, ShardKeys(shard))
        if newest > readable:
            raise CannotUndo(
                f"the store cannot go back to migration {to}: something was written under schema {newest}, "
                f"and a release of that migration reads schemas up to {readable}. Stay with this release, "
                "or restore a backup of before"
            )


async def _newest_schema(client: Redis, keys: ShardKeys) -> int:
    """The newest schema that a release has to know to go on with a shard.

    What is over only has to be read; what is open has to be changed, so it counts by who wrote it.
    """
    newest, after = 0, "-"
    while True:
        async with answering():
            entries: Any = await client.execute_command(
                "XRANGE", keys.log, after, "+", "COUNT", _READ_AT_ONCE
            )
        if not entries:
            return newest
        newest = max(newest, *(int(one.get(b"r", one.get(b"s", 0))) for _, one in entries))
        subjects = {fields[b"j"].decode() for _, fields in entries}
        newest = max(newest, *await _schemas_of_heads(client, keys, subjects))
        after = f"({entries[-1][0].decode()}"


async def _schemas_of_heads(client: Redis, keys: ShardKeys, subjects: Iterable[str]) -> list[int]:
    async with answering(), client.pipeline(transaction=False) as pipe:
        for subject in subjects:
            pipe.hmget(keys.head(subject), "schema", "readable_from", "status")
        return [
            int((readable_from if status in _OVER else None) or schema or 0)
            for schema, readable_from, status in await pipe.execute()
        ]
