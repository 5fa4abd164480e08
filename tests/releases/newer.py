"""What a newer release's writing looks like to this one, and its reading, for tests of one process."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from consumers import claims, recovery
from core import appender, head, log, upcast
from core.store import EventStore

NEXT_SCHEMA = upcast.SCHEMA + 1


async def is_newer(store: EventStore, job_id: str, *, readable: bool = True) -> None:
    """A newer release has written a job's head; this one can read it, or not."""
    await subject_is_newer(store, store.keys_of(job_id).head(job_id), readable=readable)


async def subject_is_newer(store: EventStore, head_key: str, *, readable: bool = True) -> None:
    await store.client.hset(head_key, "schema", NEXT_SCHEMA)
    readable_from = upcast.SCHEMA if readable else NEXT_SCHEMA
    await store.client.hset(head_key, "readable_from", readable_from)


@contextmanager
def next_workers() -> Iterator[None]:
    """In this block, what claims, recovers, reads and writes is of the next schema."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (appender, claims, head, log, recovery, upcast):
            patch.setattr(module, "SCHEMA", NEXT_SCHEMA)
        patch.setattr(upcast, "_UPCASTERS", {upcast.SCHEMA - 1: lambda _, fields: fields})
        yield
