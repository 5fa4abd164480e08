"""`respool replay repair`: what is derived from the log is written anew where it differs from the log."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from core.lock import REPAIRING, while_locked
from core.queues import Queues
from core.store import EventStore
from projections.building import build
from projections.feed import Gap
from projections.gaps import accept
from projections.replay.findings import Finding, Kind
from projections.replay.mending import OF_SUBJECTS, PENDING, mend_subject, mend_totals
from projections.replay.shard import Shard
from projections.replay.verify import Report, Tell, verify
from projections.rows import Unfoldable

_ROUNDS: Final = 3  # Jobs that met what was wrong may have left more of it meanwhile.


class Repaired(Struct):
    """What was mended, and what verify says since."""

    mended: list[Finding]
    report: Report


async def repair(
    store: EventStore, *, accept_gaps: bool = False, tell: Tell = lambda _: None
) -> Repaired:
    """Mend what the log can tell, while jobs go on, and verify.

    With `accept_gaps` entries that the log lacks are recorded as gone for good. Raises StoreUnavailable
    if another repair is running, or Redis does not answer; FromTheFuture.
    """

    async def work() -> Repaired:
        report, shards = await verify(store, tell)
        if accept_gaps and await _accept_gaps(store, shards):
            report, shards = await verify(store, tell)
        found = {_key(one): one for one in report.differences}
        for _ in range(_ROUNDS):
            if all(one.kind is Kind.LOG for one in report.differences):
                break
            await _mend(store, shards, report.differences)
            report, shards = await verify(store, tell)
            found |= {_key(one): one for one in report.differences}
        left = {_key(one) for one in report.differences}
        return Repaired([one for key, one in found.items() if key not in left], report)

    # One at a time, as two would each add what a count lacks.
    return await while_locked(store.client, REPAIRING, work, 0.0, lambda _: None)


def _key(one: Finding) -> tuple[str, int, str, str]:
    return one.kind, one.shard, one.subject, one.name


async def _accept_gaps(store: EventStore, shards: Sequence[Shard]) -> bool:
    """Record what is missing, and say whether there was anything new."""
    is_new = False
    for shard in shards:
        for missing in shard.history.missing:
            if not shard.history.gaps.have(missing):
                await accept(store.client, shard.keys, missing)
                is_new = True
    return is_new


async def _mend(store: EventStore, shards: Sequence[Shard], found: Sequence[Finding]) -> None:
    for shard in shards:
        here = [one for one in found if one.shard == shard.keys.shard]
        of_subjects = [one for one in here if one.kind in OF_SUBJECTS and one.subject != PENDING]
        for subject in dict.fromkeys(one.subject for one in of_subjects):
            await mend_subject(shard, subject)
        await mend_totals(shard, here)
    if any(one.kind is Kind.PAUSED for one in found):
        await Queues(store).mirror()
    if any(one.kind is Kind.VIEW for one in found):
        await _build_views(store)


async def _build_views(store: EventStore) -> None:
    """Fold the views anew, if the log allows that; verify says what does not."""
    try:
        await build(store)
    except (Gap, Unfoldable):
        return
