"""Forgetting what people wrote: facts first, then everything that has it is written anew.

First the fact goes on the log of every job, after which nothing is shown of it, nothing begins it anew, and the
views drop what they have. Then, shard by shard, what was carried over, the log, and the archive. Each step looks
for what is there, so a run that was killed is finished by another one.
"""

import secrets
from collections.abc import Callable
from contextlib import aclosing

from msgspec import Struct, field

from core.archive import ArchiveError
from core.commands import Forget
from core.head import position_of
from core.ids import shard_of
from core.keys import ShardKeys
from core.store import EventStore
from projections.archive.filling import archived
from projections.building import clock_ms
from projections.forgetting.facts import state_facts
from projections.forgetting.kept import forget_kept
from projections.forgetting.lease import archiving_held
from projections.forgetting.log import require_room, rewrite_log
from projections.forgetting.segments import rewrite_segments
from projections.forgetting.selection import Life, Selection, Who
from projections.forgetting.told import Told
from projections.forgetting.views import wait_for_views
from projections.past.sequence import Past


class Forgotten(Struct):
    """What was forgotten, and what was not."""

    jobs: int = 0  # Whose content is nowhere in log, archive and views.
    before: int = 0  # Of these, those that had been forgotten before.
    entries_in_log: int = 0  # That content was taken out of.
    entries_in_archive: int = 0
    segments: int = 0
    open: list[str] = field(default_factory=list)  # Jobs that have not ended, which were left.
    left: list[str] = field(default_factory=list)  # What could not be read, in words.

    @property
    def is_whole(self) -> bool:
        return not (self.open or self.left)


class Listener(Struct, frozen=True):
    """Who hears of it meanwhile."""

    told: Told = lambda _what, _entries: None
    waiting: Callable[[str], None] = lambda _holder: None


_NOBODY = Listener()


async def found(store: EventStore, who: Who, told: Told) -> tuple[Selection, list[str]]:
    """Those who are meant, and notes on what cannot be read. Raises ArchiveError, StoreUnavailable."""
    await _require_archive(store)
    selection, past, entries = Selection(who), Past(store, await clock_ms(store)), 0
    async with aclosing(past.pages()) as pages:
        async for page in pages:
            selection.see(page)
            entries += len(page)
            told("looking for it", entries)
    unreadable = [f"job {job}: {why}" for job, why in selection.unreadable.items()]
    return selection, past.notes + unreadable


async def _require_archive(store: EventStore) -> None:
    if store.archive is not None:
        return
    for keys in store.shards:
        if (await archived(store, keys)).sequence:
            raise ArchiveError(
                f"the log of shard {keys.shard} is in an archive, in part: set ARCHIVE_URL to where "
                "that is, so that what is there is forgotten too"
            )


async def forget(
    store: EventStore, who: Who, command: Forget, listener: Listener = _NOBODY
) -> Forgotten:
    """Take what people wrote in these jobs out of log, archive and views.

    A job that has not ended is left, and named: its worker needs its request. Jobs that come meanwhile are not
    meant. Raises ArchiveError, StoreFull, StoreUnavailable; run again, it goes on.
    """
    selection, notes = await found(store, who, listener.told)
    done = Forgotten(left=notes)
    lives = {job: life for job, life in selection.lives.items() if job not in selection.unreadable}
    done.open = [job for job, life in lives.items() if life.is_open]
    ended = {job: life for job, life in lives.items() if not life.is_open}
    for keys in _concerned(store, ended):
        newest = max((life.log_ids[-1] for life in _on(keys, ended).values()), key=position_of)
        await require_room(store, keys, newest)
    done.before = sum(life.is_forgotten for life in ended.values())
    async for stated in state_facts(store, ended, command):
        done.open += [job for job, is_stated in stated if not is_stated]
        done.jobs += len(stated)
        listener.told("facts", done.jobs)
    kept = {job: life for job, life in ended.items() if job not in set(done.open)}
    done.jobs = len(kept)
    for keys in _concerned(store, kept):
        behind = await wait_for_views(store, keys)
        done.left += [] if behind is None else [behind]
    holder = f"forgetting {secrets.token_hex(4)}"
    for keys in _concerned(store, kept):
        async with archiving_held(store, keys, holder, listener.waiting):
            await _work(store, keys, kept, listener.told, done)
    return done


def _concerned(store: EventStore, lives: dict[str, Life]) -> list[ShardKeys]:
    """The shards of these jobs."""
    shards = {shard_of(job) for job in lives}
    return [keys for keys in store.shards if keys.shard in shards]


def _on(keys: ShardKeys, lives: dict[str, Life]) -> dict[str, Life]:
    return {job: life for job, life in lives.items() if shard_of(job) == keys.shard}


async def _work(
    store: EventStore, keys: ShardKeys, lives: dict[str, Life], told: Told, done: Forgotten
) -> None:
    """One shard, while nobody archives it."""
    jobs = _on(keys, lives)
    await forget_kept(store, keys, list(jobs))
    done.entries_in_log += await rewrite_log(store, keys, jobs, told)
    rewritten = await rewrite_segments(store, keys, jobs, told)
    done.entries_in_archive += rewritten.entries
    done.segments += rewritten.segments
    done.left += rewritten.left
