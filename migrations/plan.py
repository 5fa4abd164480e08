"""What a store lacks of what this release needs: steps of three kinds, in the order in which they are taken.

- **Migrations** are numbered, and change what is stored. What one of them does is never edited after a
  release: a store that has the number is taken to have had exactly that done to it. So they depend on
  nothing that changes from release to release: not on the function library, nor on a projection.
- **Functions**: the library of a release is no data. It is loaded under a name of its own, beside those
  of other releases, and again if it is not there: a restored dump has the data alone.
- **Views** are folded from the log when no generation serves this release's projections: there never
  was one, or the version of one of them was changed.
"""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final

from msgspec import Struct
from redis.asyncio import Redis

from core import functions
from core.errors import StoreNotReady
from core.keys import META
from core.nodes import primaries
from core.records import Bounds
from core.redis import answering
from core.store import EventStore
from core.upcast import SCHEMA
from migrations import m0001_functions, m0002_views
from projections.building import left_to_fold, log_lengths
from projections.generations import Role, all_of, last_rate, serving
from projections.registry import fingerprint


class Migration(Struct, frozen=True):
    """One numbered step. It is never edited after a release."""

    number: int
    name: str
    apply: Callable[[Redis, int], Awaitable[None]]
    undo: Callable[[Redis], Awaitable[None]] | None = None  # None: it cannot be undone.
    schema: int = SCHEMA  # What releases that know no later migration can read: see core.upcast.


MIGRATIONS: Final = (
    Migration(1, m0001_functions.NAME, m0001_functions.apply, schema=1),
    Migration(2, m0002_views.NAME, m0002_views.apply, m0002_views.undo, schema=1),
)


class Kind(StrEnum):
    """What a step changes."""

    MIGRATION = "migration"
    FUNCTIONS = "functions"
    VIEWS = "views"


class Step(Struct, frozen=True, omit_defaults=True):
    """One thing that a store lacks."""

    kind: Kind
    name: str
    number: int | None = None  # Of a migration.
    entries: int | None = None  # Of the log, which views are to be folded from.
    of: int | None = None  # Of how many in all: the others were folded by a try that was stopped.
    seconds: float | None = None  # About how long that takes, if an earlier build tells.
    changed: tuple[str, ...] = ()  # What differs from the views that serve now.

    def __str__(self) -> str:
        match self.kind:
            case Kind.MIGRATION:
                return f"migration {self.number}: {self.name}"
            case Kind.FUNCTIONS:
                return f"functions: {self.name}"
            case Kind.VIEWS:
                return f"views ({self.name}): {self._size()}" + "".join(
                    f"; {change}" for change in self.changed
                )

    def done(self) -> str:
        """The step in words, once it is taken."""
        return f"views ({self.name})" if self.kind is Kind.VIEWS else str(self)

    def _size(self) -> str:
        if not self.entries:
            return "nothing to fold, as the log is empty" if not self.of else "all is folded"
        left = f" that are left of {self.of:,}" if self.of and self.of > self.entries else ""
        noun = "entry" if self.entries == 1 else "entries"
        took = "" if self.seconds is None else f", about {in_words(self.seconds)}"
        return f"to be folded from {self.entries:,} log {noun}{left}{took}"


def in_words(seconds: float) -> str:
    """A span of time as a person says it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3_600:.1f} h"


async def plan(client: Redis) -> list[Step]:
    """What the store lacks; it changes nothing. Raises StoreNotReady, StoreUnavailable.

    StoreNotReady: it was migrated by a newer release.
    """
    needed = await required(client)
    store = EventStore(client, await shards_of(client), Bounds())
    views = await _views(store)
    return needed if views is None else [*needed, views]


async def required(client: Redis) -> list[Step]:
    """What the store lacks that no process of this release can do without; views are not among it.

    Raises as `plan` does.
    """
    async with answering():
        listing = ("FUNCTION", "LIST", "LIBRARYNAME", functions.LIBRARY)
        are_loaded = [bool(await one.execute_command(*listing)) for one in await primaries(client)]
    last = await applied(client)
    if last > MIGRATIONS[-1].number:
        raise StoreNotReady(
            f"the store has migration {last}, and this release knows up to {MIGRATIONS[-1].number}: it was "
            "migrated by a newer release, so upgrade this one, or have that one run "
            f"`respool migrate --to {MIGRATIONS[-1].number}`"
        )
    steps = [
        Step(Kind.MIGRATION, migration.name, migration.number)
        for migration in MIGRATIONS
        if migration.number > last
    ]
    if not all(are_loaded):
        steps.append(Step(Kind.FUNCTIONS, f"{functions.LIBRARY}, beside those of other releases"))
    return steps


async def applied(client: Redis) -> int:
    """The number of the last migration; 0 for none. Raises StoreUnavailable."""
    async with answering():
        return int(await client.hget(META, "migration") or 0)


async def shards_of(client: Redis) -> int:
    """How many shards the store has; 1 if it is not made yet. Raises StoreUnavailable."""
    async with answering():
        return int(await client.hget(META, "shards") or 1)


async def _views(store: EventStore) -> Step | None:
    try:
        await serving(store)
    except StoreNotReady:
        ours = fingerprint()
    else:
        return None
    entries, in_all = await left_to_fold(store), sum(await log_lengths(store))
    rate = await last_rate(store)
    served = [one for one, role in (await all_of(store)).items() if role is Role.SERVING]
    return Step(
        Kind.VIEWS,
        ours,
        entries=entries,
        of=in_all,
        seconds=entries / rate if rate else None,
        changed=difference(served[-1].fingerprint if served else None, ours),
    )


def difference(before: str | None, after: str) -> tuple[str, ...]:
    """What one fingerprint has otherwise than another, in words."""
    if before is None:
        return ("the first that it has",)
    old, new = _versions(before), _versions(after)
    return (
        *(
            f"{name} {old[name]} is {new[name]} now"
            for name in new
            if old.get(name, new[name]) != new[name]
        ),
        *(f"{name} is new" for name in new if name not in old),
        *(f"{name} is no more" for name in old if name not in new),
    )


def _versions(fingerprint: str) -> dict[str, str]:
    return dict(part.rpartition(".")[::2] for part in fingerprint.split())
