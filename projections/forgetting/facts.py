"""The fact that a job is forgotten, on its log: from then on nobody is shown what it had, and nothing begins it anew."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from msgspec import structs

from core.appender import Record, new_record
from core.commands import Forget
from core.errors import Conflict, UnknownJob
from core.events import Redacted
from core.job import CommandRefused, decide, evolve
from core.keys import ShardKeys
from core.store import EventStore
from projections.forgetting.selection import Life
from projections.replay.derived import derived
from projections.rows import JobRow

_TOGETHER: Final = 200
# A head that had expired is there again for so long: as long as its append may be sent again.
_REVIVED_MS: Final = 60_000


async def state_facts(
    store: EventStore, lives: dict[str, Life], command: Forget
) -> AsyncIterator[list[tuple[str, bool]]]:
    """Append the fact to each of these jobs that have ended, some at a time.

    Each with whether it is there now: a job that lives again meanwhile is not to be forgotten. Raises
    StoreUnavailable, FromTheFuture.
    """
    jobs = list(lives.items())
    for first in range(0, len(jobs), _TOGETHER):
        some = jobs[first : first + _TOGETHER]
        stated = await asyncio.gather(*(_state(store, *job, command) for job in some))
        yield [(job_id, is_stated) for (job_id, _), is_stated in zip(some, stated, strict=True)]


async def _state(store: EventStore, job_id: str, life: Life, command: Forget) -> bool:
    if life.is_forgotten:
        return True
    assert life.row is not None, "it has ended"
    try:
        await store.execute(job_id, command, life.row.job)
    except CommandRefused:
        return False
    except UnknownJob:
        return await _state_of_expired(store, job_id, life.row, life.log_ids, command)
    return True


async def _state_of_expired(
    store: EventStore, job_id: str, row: JobRow, log_ids: Sequence[str], command: Forget
) -> bool:
    keys = store.keys_of(job_id)
    [event] = decide(row.job, command)
    assert isinstance(event, Redacted), "it has ended, and is not forgotten"
    try:
        await store.write(keys.shard, _reviving(keys, job_id, row, log_ids, event))
    except Conflict:
        return False  # Somebody else forgets it just now.
    return True


def _reviving(
    keys: ShardKeys, job_id: str, row: JobRow, log_ids: Sequence[str], event: Redacted
) -> Record:
    """The append for a job whose head has expired. It brings the head back for a moment.

    Without one, an append that is sent again after a lost reply would be another fact.
    """
    after = evolve(row.job, event)
    head = derived(structs.replace(row, job=after), log_ids).fields
    return structs.replace(
        new_record(keys, job_id, row.job, (event,), after),
        set=[text for field in head.items() for text in field],
        clear=[],
        revives=True,
        expires_ms=_REVIVED_MS,
    )
