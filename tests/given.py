"""Facts and requests for tests to start from."""

import secrets
import time
from typing import Any

from msgspec import Raw

from core.events import Submitted
from core.ids import RANDOM_BITS, job_id
from core.store import EventStore

CHAT = Raw(b'{"messages":[{"role":"user","content":"one two three"}]}')


def submitted(**changes: Any) -> Submitted:
    """A chat job for the echo model, but for `changes`."""
    fields: dict[str, Any] = {
        "queue": "default",
        "model": "echo",
        "tenant": "default",
        "request": CHAT,
        "timeout_ms": 60_000,
        "attempts_max": 3,
    }
    return Submitted(**fields | changes)


def new_id(shard: int = 0) -> str:
    """An id that no job has."""
    return job_id(time.time_ns() // 1_000_000, secrets.randbits(RANDOM_BITS), shard)


async def a_job(store: EventStore, shard: int = 0, **changes: Any) -> str:
    """Submit a job; its id."""
    job = new_id(shard)
    await store.submit(job, submitted(**changes))
    return job
