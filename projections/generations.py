"""Generations of views: which one serves a release, building the next one beside it, dropping the old.

All projections of a release form one generation, at one position: so a list and a count agree with each
other. What a generation was built by is its fingerprint, the names and versions of its projections; two
releases side by side have one each. The hash `respool:{0}:views` names them:

    serving:FINGERPRINT    the generation that answers
    building:FINGERPRINT   the one that is to follow it
    made:GENERATION        its fingerprint
    last                   the last number that was given out
    rate                   how many log entries a second the last long build has folded

One that neither serves nor is being built was replaced, or is half dropped. Its views are made before
anything names it: so one that is not there was dropped, and nobody makes it again under the hands of who
drops it.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from core import functions
from core.errors import StoreNotReady
from core.redis import answering
from core.store import EventStore
from projections.checkpoint import Moved, View
from projections.fold import Horizon
from projections.keys import VIEWS, ViewKeys
from projections.registry import fingerprint

_DROPPED_AT_ONCE: Final = 100


class Role(StrEnum):
    """What a generation is to its release."""

    SERVING = "serving"
    BUILDING = "building"
    REPLACED = "replaced"


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


async def being_built(store: EventStore, of: str | None = None) -> Generation | None:
    """The generation that is being built for a release, by default this one. Raises StoreUnavailable."""
    of = of or fingerprint()
    number = await _get(store, f"building:{of}")
    return None if number is None else Generation(number, of)


async def begin(store: EventStore, horizon: Horizon, of: str | None = None) -> Generation:
    """The generation that is being built for a release; a new one, empty, if none is.

    Raises StoreUnavailable.
    """
    of = of or fingerprint()
    while (begun := await being_built(store, of)) is None:
        number = (await _get(store, "last") or 0) + 1
        for view in Generation(number, of).views(store):
            await view.create(horizon)
        named = _named(Generation(number, of))
        await functions.call(store.client, "generation_begin", [VIEWS], named)
    return begun


async def switch(store: EventStore, to: Generation, rate: int | None = None) -> Generation | None:
    """Let a generation that has been built serve from now on; the one that it replaces, if any.

    `rate` says how many entries a second were folded, for the next one's estimate. Raises Moved if it was
    dropped meanwhile, StoreUnavailable.
    """
    ask: dict[str, str | int] = {**_named(to)}
    if rate is not None:
        ask["rate"] = rate
    reply = await functions.call(store.client, "generation_switch", [VIEWS], ask)
    match reply:
        case [b"ok", before]:
            return Generation(int(before), to.fingerprint)
        case [b"ok"]:
            return None
        case _:
            raise Moved("the generation that was to serve is gone")


async def last_rate(store: EventStore) -> int | None:
    """How many log entries a second the last long build has folded; None before there was one.

    Raises StoreUnavailable.
    """
    return await _get(store, "rate")


async def all_of(store: EventStore) -> dict[Generation, Role]:
    """Every generation there is anything of, oldest first. Raises StoreUnavailable."""
    async with answering():
        stored: Any = await store.client.hgetall(VIEWS)
    named = {name.decode(): value.decode() for name, value in stored.items()}
    numbers = sorted(int(name[5:]) for name in named if name.startswith("made:"))
    made = [Generation(number, named[f"made:{number}"]) for number in numbers]
    return {one: _role(one, named) for one in made}


async def moved_ms(store: EventStore, generation: Generation) -> int:
    """When a projector or a build last moved a generation's horizon, which they do every minute; 0: never.

    Raises StoreUnavailable.
    """
    newest_ms = 0
    for view in generation.views(store):
        try:
            newest_ms = max(newest_ms, (await view.checkpoint()).horizon.counts_ms)
        except Moved:  # Half dropped.
            continue
    return newest_ms


async def drop(store: EventStore, old: Generation) -> None:
    """Delete a generation, its checkpoints first, so that nobody commits to it any more.

    Killed in between, it goes on where it was. Raises StoreUnavailable.
    """
    await functions.call(store.client, "generation_unname", [VIEWS], _named(old))
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


async def drop_abandoned(store: EventStore, now_ms: int, silent_ms: int) -> list[Generation]:
    """Drop what nobody has moved for so long, but for what serves this release; which ones.

    That is what other releases served, older or newer, once none of their projectors runs any more; what
    was half built for a release that is gone; and what was replaced by somebody who died before he
    dropped it. Raises StoreUnavailable, StoreNotReady.
    """
    ours = await serving(store)
    dropped = []
    for other in await all_of(store):
        if other != ours and now_ms - await moved_ms(store, other) >= silent_ms:
            await drop(store, other)
            dropped.append(other)
    return dropped


def _named(generation: Generation) -> dict[str, str]:
    return {"fingerprint": generation.fingerprint, "number": str(generation.number)}


def _role(generation: Generation, named: Mapping[str, str]) -> Role:
    for role in (Role.SERVING, Role.BUILDING):
        if named.get(f"{role}:{generation.fingerprint}") == str(generation.number):
            return role
    return Role.REPLACED


async def _unlink(store: EventStore, view: View, names: Iterable[str]) -> None:
    async with answering():
        await store.client.unlink(*(view.keys.named(name) for name in names))


async def _get(store: EventStore, name: str) -> int | None:
    async with answering():
        number = await store.client.hget(VIEWS, name)
    return None if number is None else int(number)
