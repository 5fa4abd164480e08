"""A runner: reads a shard's log, folds it, and commits view and checkpoint together.

Any number may run. Each folds onto the checkpoint that it saw, and a commit onto another one is refused;
so every entry is in the view exactly once, whoever dies at whatever moment.
"""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Final

from msgspec import structs

from core.errors import FromTheFuture
from core.log import LogEntry
from core.store import EventStore
from projections.archive.filling import fill
from projections.checkpoint import Checkpoint, Held, View
from projections.feed import Poison, parse, read
from projections.fold import Batch, Parked
from projections.gaps import Gaps, accepted
from projections.pruning import EVERY_MS, prune
from projections.rows import Row, Unfoldable

BATCH_ENTRIES: Final = 1_000
_ROWS_KNOWN_MAX: Final = 100_000


class Runner:
    """Moves one shard's part of a generation of views on."""

    def __init__(
        self,
        store: EventStore,
        view: View,
        *,
        batch_entries: int = BATCH_ENTRIES,
        strict: bool = False,
    ) -> None:
        """A strict one stops at what it cannot fold; another parks its subject and goes on."""
        self._store = store
        self._view = view
        self._keys = store.shards[view.keys.shard]
        self._batch_entries = batch_entries
        self._strict = strict
        self._at: Checkpoint | None = None
        self._rows: dict[str, Row] = {}  # Some of them, as they are at the checkpoint.
        self._parked: dict[str, Parked] = {}
        self._gaps = Gaps()

    async def advance(self, block_ms: int | None = None) -> int:
        """Fold the next batch, waited for at most `block_ms`; how many entries it had.

        What precedes an entry from the future is folded, and then it is raised. Raises Moved, Held,
        LostTail, Gap, FromTheFuture, StoreUnavailable; and Unfoldable, if strict.
        """
        at = await self._resumed()
        raws = await read(self._store, self._keys.shard, at.entry, self._batch_entries, block_ms)
        raws = await self._filled(raws, at)
        run = parse(self._keys, raws, at.sequence, at.entry, self._gaps.have)
        if not run.entries:
            _raise(run.stopped)
            return 0
        last = run.entries[-1]
        to = structs.replace(at, sequence=last.sequence, entry=last.id)
        try:
            batch = await self._fold(at, run.entries)
            self._at = await self._view.commit(at, to, batch.changes())
        except Held:
            raise
        except BaseException:
            self.forget()  # It may have been written, by us or by another.
            raise
        self._learn(batch)
        _raise(run.stopped)
        return len(run.entries)

    async def _filled(self, raws: list[Any], at: Checkpoint) -> list[Any]:
        """A batch of what comes after a checkpoint: out of the archive, where the log has it no more."""
        batch: list[Any] = []
        async with aclosing(fill(self._store, self._keys.shard, raws, at.sequence)) as pages:
            async for page in pages:
                batch += page
                if len(batch) >= self._batch_entries:
                    break
        return batch[: self._batch_entries]

    async def prune(self, now_ms: int) -> bool:
        """Forget some of what is old by now, if it is time to; whether that was all of it.

        Raises as `advance` does.
        """
        at = await self._resumed()
        try:
            self._at = await prune(self._store, self._view, at, now_ms)
        except Held:
            raise
        except BaseException:
            self.forget()
            raise
        if self._at is not at:
            self._rows.clear()
        return now_ms - self._at.horizon.counts_ms < EVERY_MS

    async def _resumed(self) -> Checkpoint:
        """Where the view is; looked up, and held against the log, if that is not known."""
        if self._at is None:
            at = await self._view.verified_checkpoint()
            self._parked = await self._view.parked()
            self._gaps = await accepted(self._store.client, self._keys)
            self._at = at
        return self._at

    def forget(self) -> None:
        """Take nothing for granted that was known of the view."""
        self._at = None
        self._rows = {}

    async def _fold(self, at: Checkpoint, entries: Sequence[LogEntry | Poison]) -> Batch:
        needed = {
            entry.subject
            for entry in entries
            if isinstance(entry, Poison) or (entry.version > 1 and entry.subject not in self._rows)
        }
        self._rows |= await self._view.rows(list(needed), at)
        batch = Batch(self._rows, self._parked, at.horizon)
        for entry in entries:
            if isinstance(entry, Poison):
                if self._strict:
                    raise Unfoldable(f"entry {entry.id} of {entry.subject}: {entry.why}")
                batch.park(entry.subject, Parked(entry.id, entry.why))
            elif self._strict and not self._gaps.explain(entry, batch.row_of(entry.subject)):
                batch.add(entry)
            else:
                batch.add_or_park(entry)
        return batch

    def _learn(self, batch: Batch) -> None:
        """Remember the rows that may soon be needed again: those of what has not ended."""
        for subject, row in batch.rows.items():
            self._rows.pop(subject, None)  # So that the newest come last.
            if row.ended_ms is None:
                self._rows[subject] = row
        if len(self._rows) > _ROWS_KNOWN_MAX:
            self._rows = dict(list(self._rows.items())[-_ROWS_KNOWN_MAX // 2 :])
        self._parked |= batch.parked


def _raise(stopped: FromTheFuture | None) -> None:
    if stopped is not None:
        raise stopped
