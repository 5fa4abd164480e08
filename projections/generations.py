"""Generations of views: which one serves a release, building the next one beside it, dropping the old.

All projections of a release form one generation, at one position: so a list and a count agree with each
other. What a generation was built by is its fingerprint, the names and versions of its projections; two
releases side by side have one each. The hash `respool:{0}:views` names them:

    serving:FINGERPRINT    the generation that answers
    building:FINGERPRINT   the one that is to follow it
    made:GENERATION        its fingerprint
    last                   the last number that was given out
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct

from core.errors import StoreNotReady
from core.redis import answering
from core.store import EventStore
from projections.checkpoint import View
from projections.keys import VIEWS, ViewKeys
from projections.registry import fingerprint

_DROPPED_AT_ONCE: Final = 100


class Generation(Struct, frozen=True):
    """One generation: its number, and what it was built by."""

    number: int
    fingerprint: str

    def view(self, store: EventStore, shard: int) -> View:
        """A shard's part of it."""
        return View(store.client, store.shards[shard], ViewKeys(shard, self.number))

    def views(self, store: EventStore) -> list[View]:
        """All of it."""
        return [self.view(store, keys.shard) for keys in store.shards]


async def serving(store: EventStore, of: str | None = None) -> Generation:
    """The generation that serves a release, by default this one.

    Raises StoreNotReady if none does (yet), StoreUnavailable.
    """
    of = of or fingerprint()
    number = await _get(store, f"serving:{of}")
    if number is None:
        raise StoreNotReady(
            "the views of this release are not built yet: run `respool migrate` (its --plan says more)"
        )
    return Generation(number, of)


async def begin(store: EventStore, of: str | None = None) -> Generation:
    """The generation that is being built for a release; a new one if none is. Raises StoreUnavailable."""
    of = of or fingerprint()
    number = await _get(store, f"building:{of}")
    if number is None:
        async with answering():
            number = int(await store.client.hincrby(VIEWS, "last", 1))
            await store.client.hset(VIEWS, f"made:{number}", of)
            await store.client.hset(VIEWS, f"building:{of}", str(number))
    return Generation(number, of)


async def switch(store: EventStore, to: Generation) -> None:
    """Let a generation that has been built serve from now on. Raises StoreUnavailable."""
    async with answering(), store.client.pipeline(transaction=True) as pipe:
        pipe.hset(VIEWS, f"serving:{to.fingerprint}", str(to.number))
        pipe.hdel(VIEWS, f"building:{to.fingerprint}")
        await pipe.execute()


async def all_of(store: EventStore) -> list[Generation]:
    """Every generation there is anything of, oldest first. Raises StoreUnavailable."""
    made = {
        int(name.removeprefix("made:")): value
        for name, value in (await _registry(store)).items()
        if name.startswith("made:")
    }
    return [Generation(number, made[number]) for number in sorted(made)]


async def abandon(store: EventStore, half_built: Generation) -> None:
    """Give up a generation that is being built. Raises StoreUnavailable."""
    async with answering():
        await store.client.hdel(VIEWS, f"building:{half_built.fingerprint}")
    await drop(store, half_built)


async def drop(store: EventStore, old: Generation) -> None:
    """Delete a generation, its checkpoints first, so that nobody commits to it any more.

    Killed in between, it goes on where it was. Raises StoreUnavailable.
    """
    for view in old.views(store):
        async with answering():
            await store.client.unlink(view.keys.checkpoint)
        names = sorted(await view.names())
        for first in range(0, len(names), _DROPPED_AT_ONCE):
            await _unlink(store, view, names[first : first + _DROPPED_AT_ONCE])
        async with answering():
            await store.client.unlink(view.keys.rows, view.keys.parked, view.keys.names)
    async with answering():
        await store.client.hdel(VIEWS, f"made:{old.number}")


async def _unlink(store: EventStore, view: View, names: Iterable[str]) -> None:
    async with answering():
        await store.client.unlink(*(view.keys.named(name) for name in names))


async def _get(store: EventStore, name: str) -> int | None:
    async with answering():
        number = await store.client.hget(VIEWS, name)
    return None if number is None else int(number)


async def _registry(store: EventStore) -> dict[str, str]:
    async with answering():
        stored: Any = await store.client.hgetall(VIEWS)
    return {name.decode(): value.decode() for name, value in stored.items()}
