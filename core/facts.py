"""Facts about workers and queues: on the log of shard 0, with heads of their own."""

from collections.abc import Callable
from typing import Final, TypeVar

from core import functions
from core.appender import Record
from core.errors import Conflict, StoreError
from core.fleet import Queue, Worker
from core.head import read_fields
from core.store import EventStore

_CONFLICTS_MAX: Final = 10

Subject = TypeVar("Subject", Worker, Queue)


async def load_subject(store: EventStore, subject: str, kind: type[Subject]) -> Subject | None:
    """A worker or a queue as it is now; None if nothing has happened to it. Raises StoreUnavailable."""
    [flat] = await functions.call(store.client, "heads", [store.shards[0].head(subject)], {})
    if not flat:
        return None
    state: Subject = read_fields(flat, kind)[0]
    return state


async def write_fact(
    store: EventStore,
    subject: str,
    kind: type[Subject],
    next_record: Callable[[Subject | None], Record | None],
) -> None:
    """Write what `next_record` makes of the newest state, again as long as others are first.

    Nothing is written if it makes nothing of it. Raises what it raises, and StoreUnavailable.
    """
    for _ in range(_CONFLICTS_MAX):
        record = next_record(await load_subject(store, subject, kind))
        if record is None:
            return
        try:
            await store.write(0, record)
        except Conflict:
            continue
        return
    raise StoreError(f"{subject} changed {_CONFLICTS_MAX} times while it was being written")
