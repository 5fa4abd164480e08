"""A view held against the fold of its log. It stands still meanwhile, for seconds, and then goes on."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

from core import functions
from core.errors import StoreError, StoreNotReady
from core.store import EventStore
from core.tail import NO_ENTRY
from projections.checkpoint import Checkpoint, LostTail, Moved, View
from projections.fold import Changes
from projections.generations import serving
from projections.pruning import is_over
from projections.replay.findings import Finding, Kind
from projections.replay.history import Told
from projections.replay.reading import scanned
from projections.replay.shard import Shard

HOLD_MS: Final = 3_000
_RENEW_SECONDS: Final = 1.0
_NEAR_ENTRIES: Final = 5_000  # What is read while the view is held.
_TRIES: Final = 5


async def served_view(store: EventStore, shard: int) -> View | None:
    """The view that serves this release; None if there is none. Raises StoreUnavailable."""
    try:
        return (await serving(store)).view(store, shard)
    except StoreNotReady:
        return None


async def check_view(store: EventStore, shard: Shard, told: Told) -> list[Finding]:
    """Compare the view that serves with the log, which is read up to where the view has come.

    Raises StoreUnavailable, FromTheFuture.
    """
    for _ in range(_TRIES):
        view = await served_view(store, shard.keys.shard)
        if view is None:
            return [_of_view(shard, "", None, "built: run `respool migrate`")]
        try:
            at = await view.verified_checkpoint()
            while at.sequence - shard.history.sequence > _NEAR_ENTRIES:
                await shard.fold(at.entry)
                at = await view.verified_checkpoint()
            async with _held(store, view):
                at = await view.checkpoint()
                found = await _check_held(store, shard, view, at, told)
                if (await view.checkpoint()).commits == at.commits:
                    return found
        except LostTail as error:
            return [_of_view(shard, "checkpoint", str(error), "an entry of the log")]
        except Moved:
            continue  # Another generation serves by now.
    raise StoreError("the views were built anew all the while; verify them when that is over")


@asynccontextmanager
async def _held(store: EventStore, view: View) -> AsyncIterator[None]:
    """Let a view stand still in the block. Killed in it, the view goes on after HOLD_MS."""
    until_ms = await hold(store, view, HOLD_MS)

    async def renew() -> None:
        nonlocal until_ms
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            with suppress(StoreError):
                until_ms = await hold(store, view, HOLD_MS)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        with suppress(StoreError, Moved):
            await hold(store, view, 0, until_ms)


async def hold(store: EventStore, view: View, for_ms: int, until_ms: int = 0) -> int:
    """Let a view stand still for so long from now; 0: no longer, if it was held until `until_ms`.

    Until when it is held. Raises Moved if there is no such view, StoreUnavailable.
    """
    ask = {"for_ms": for_ms, "until_ms": until_ms}
    reply = await functions.call(store.client, "project_hold", [view.keys.checkpoint], ask)
    if reply is None:
        raise Moved("the view is not there")
    return int(reply[0])


async def _check_held(
    store: EventStore, shard: Shard, view: View, at: Checkpoint, told: Told
) -> list[Finding]:
    history = shard.history
    await shard.fold(at.entry)
    if at.sequence != history.sequence or at.entry not in (history.entry, NO_ENTRY):
        if history.sequence > at.sequence:
            raise Moved("a younger view serves than the one before")
        return [_of_view(shard, "checkpoint", f"number {at.sequence}", f"{history.sequence}")]
    if not history.is_whole:
        return []  # The view may have what the log lacks: there is nothing to hold it against.
    history.batch.look_from(at.horizon)
    should = await asyncio.to_thread(history.batch.changes)
    comparing = _Comparing(store, shard, view, at)
    found = await comparing.parked()
    found += await comparing.rows(should, told)
    return found + await comparing.named(should, told)


class _Comparing:
    """One view, while it is held."""

    def __init__(self, store: EventStore, shard: Shard, view: View, at: Checkpoint) -> None:
        self._store = store
        self._shard = shard
        self._view = view
        self._at = at

    async def parked(self) -> list[Finding]:
        """Subjects that the view passes over. Those that nobody can fold are named with the log."""
        stored = await self._view.parked()
        should = self._shard.history.batch.parked
        return [
            _of_view(
                self._shard,
                f"parked {subject}",
                stored[subject].why if subject in stored else None,
                should[subject].why if subject in should else None,
            )
            for subject in sorted(stored.keys() | should.keys())
            if stored.get(subject) != should.get(subject)
        ]

    async def rows(self, should: Changes, told: Told) -> list[Finding]:
        expected, seen, found = should.rows, set(), []
        async for page in scanned(self._store, b"HSCAN", self._view.keys.rows):
            for subject, row in page:
                seen.add(subject)
                if expected.get(subject) != row:
                    found.append(self._row(subject, row, expected.get(subject)))
            told("views", len(seen), max(len(expected), len(seen)))
        found += [self._row(subject, None, expected[subject]) for subject in expected.keys() - seen]
        return found

    def _row(self, subject: str, stored: bytes | None, expected: bytes | None) -> Finding:
        return _of_view(self._shard, f"row {subject}", _text(stored), _text(expected))

    async def named(self, should: Changes, told: Told) -> list[Finding]:
        """All sorted sets, gauges and counters, and the set of their names."""
        expected: dict[str, Mapping[str, int | None]] = {
            **should.places,  # Where nothing was before, nothing leaves.
            **{
                name: {field: by for field, by in fields.items() if by}
                for name, fields in should.added.items()
            },
        }
        expected = {
            name: what for name, what in expected.items() if what and not self._is_over(name)
        }
        listed = {name for name in await self._view.names() if not self._is_over(name)}
        names = sorted(listed | expected.keys())
        kinds = await self._kinds(names)
        found = []
        for done, (name, kind) in enumerate(zip(names, kinds, strict=True), 1):
            there = kind in _SCANS
            if there != (name in listed):
                found.append(self._listed(name, is_listed=name in listed))
            if there or name in expected:
                found += await self._compare(name, kind, expected.get(name, {}))
            told("lists and counters", done, len(names))
        return found

    def _is_over(self, name: str) -> bool:
        try:
            return is_over(name, self._at.horizon.counts_ms)
        except ValueError:
            return False

    async def _kinds(self, names: list[str]) -> list[str]:
        commands = [("TYPE", self._view.keys.named(name)) for name in names]
        replies = await functions.pipeline(self._store.client, commands) if commands else []
        return [reply.decode() for reply in replies]

    def _listed(self, name: str, *, is_listed: bool) -> Finding:
        stored, expected = ("listed", None) if is_listed else (None, "listed")
        return _of_view(self._shard, f"name {name}", stored, expected)

    async def _compare(
        self, name: str, kind: str, expected: Mapping[str, int | None]
    ) -> list[Finding]:
        stored: dict[str, bytes] = {}
        if kind in _SCANS:
            async for page in scanned(self._store, _SCANS[kind], self._view.keys.named(name)):
                stored.update(page)
        should = {member: str(value).encode() for member, value in expected.items()}
        if stored == should:
            return []
        return [
            _of_view(
                self._shard,
                f"{name} {member}",
                _text(stored.get(member)),
                _text(should.get(member)),
            )
            for member in sorted(stored.keys() | should.keys())
            if stored.get(member) != should.get(member)
        ]


_SCANS: Final = {"zset": b"ZSCAN", "hash": b"HSCAN"}


def _text(stored: bytes | None) -> str | None:
    return None if stored is None else stored.decode(errors="replace")


def _of_view(shard: Shard, name: str, stored: str | None, expected: str | None) -> Finding:
    return Finding(
        kind=Kind.VIEW,
        shard=shard.keys.shard,
        subject=name,
        name="",
        stored=stored,
        expected=expected,
    )
