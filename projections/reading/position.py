"""Where views stand: said with every answer, and what a reader may want them to have reached."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from core import functions
from core.bells import Bells
from core.errors import RespoolError, StoreNotReady
from core.head import position_of
from core.store import EventStore
from projections.checkpoint import View
from projections.feed import read
from projections.generations import Generation, serving
from projections.keys import BELL_NAME

WAIT_SECONDS: Final = 5.0
_LOOK_EVERY_SECONDS: Final = 0.25
_KNOWN_FOR_SECONDS: Final = 1.0
_ENTRY: Final = r"[0-9]{1,20}-[0-9]{1,20}"


class ViewsBehind(RespoolError):
    """The views have not come to a position in time."""

    def __init__(self, wanted: str, position: str) -> None:
        super().__init__(f"the views are at position {position}, and not yet at {wanted}")


class Position(Struct, frozen=True):
    """Where the views of all shards stand."""

    entries: tuple[str, ...]
    stopped: str = ""  # Why they do not move on, if they do not.

    @property
    def note(self) -> str | None:
        """What a reader should know of the views."""
        return f"the views do not move on: {self.stopped}" if self.stopped else None

    def __str__(self) -> str:
        return ",".join(self.entries)


class Reader:
    """Asks the views of the generation that serves."""

    def __init__(self, store: EventStore, bells: Bells) -> None:
        self.store = store
        self._bells = bells
        self._generation: Generation | None = None
        self._looked_at = 0.0

    async def views(self) -> list[View]:
        """Each shard's view. Raises StoreNotReady, StoreUnavailable."""
        now = asyncio.get_running_loop().time()
        if self._generation is None or now - self._looked_at > _KNOWN_FOR_SECONDS:
            self._generation = await serving(self.store)
            self._looked_at = now
        return self._generation.views(self.store)

    async def ask(
        self, name: str, keys_of: Any, ask_of: Any = lambda _: {}
    ) -> tuple[Position, list[list[Any]]]:
        """Call a function on every shard's view: where they stand, and what each replied.

        `keys_of` and `ask_of` make its keys and its argument for a view. Raises StoreNotReady,
        StoreUnavailable.
        """
        for _ in range(2):  # Once more if the generation was followed by another one.
            views = await self.views()
            replies = await asyncio.gather(
                *(
                    functions.call(
                        self.store.client,
                        name,
                        [view.keys.checkpoint, *keys_of(view)],
                        ask_of(view),
                    )
                    for view in views
                )
            )
            if all(reply[0] for reply in replies):
                return _position([reply[0] for reply in replies]), [reply[1:] for reply in replies]
            self._generation = None
        raise StoreNotReady("the views are being replaced; try again")

    async def position(self) -> Position:
        """Where the views stand. Raises StoreNotReady, StoreUnavailable."""
        position, _ = await self.ask("views_hashes", lambda _: [])
        return position

    async def until(self, wanted: str | None) -> None:
        """Wait until the views have come to a position, as an answer or a job has stated it.

        A bare entry id is meant for each shard; a shard whose view is at the end of its log has come to
        any. Raises ValueError for what is no position, ViewsBehind, StoreNotReady, StoreUnavailable.
        """
        if wanted is None:
            return
        entries = parse_position(wanted, len(self.store.shards))
        loop = asyncio.get_running_loop()
        until = loop.time() + WAIT_SECONDS
        async with self._bells.hear(BELL_NAME) as bell:
            while not await self._has_reached(entries):
                left = until - loop.time()
                if left <= 0 or bell.is_closing:
                    raise ViewsBehind(wanted, str(await self.position()))
                await bell.wait(min(left, _LOOK_EVERY_SECONDS))

    async def _has_reached(self, entries: Sequence[str]) -> bool:
        position = await self.position()
        for keys, at, wanted in zip(self.store.shards, position.entries, entries, strict=True):
            if position_of(at) < position_of(wanted) and await self._has_more(keys.shard, at):
                return False
        return True

    async def _has_more(self, shard: int, after: str) -> bool:
        return bool(await read(self.store, shard, after, 1))  # Whatever it is: it is not looked at.


def parse_position(text: str, shards: int) -> list[str]:
    """A position as clients give it: an entry id for each shard. Raises ValueError."""
    entries = text.split(",")
    for entry in entries:
        if not re.fullmatch(_ENTRY, entry):
            raise ValueError(
                f"takes a position as an answer states it, such as 1795604924790-31, not {text!r}"
            )
    if len(entries) == 1:
        return entries * shards
    if len(entries) != shards:
        raise ValueError(f"takes one entry or {shards}, one for each shard, not {len(entries)}")
    return entries


def _position(stated: Sequence[Sequence[Any]]) -> Position:
    stopped = next((why.decode() for _, _, why in stated if why), "")
    return Position(tuple(entry.decode() for _, entry, _ in stated), stopped)
