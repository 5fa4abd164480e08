"""Holds a store against its log, with the code of whichever release runs it, and says what is in it.

REDIS_URL=redis://... python -m tests.releases.judge
"""

import asyncio
import os
import sys
from collections import Counter

import msgspec
from msgspec import Struct, structs

from core.events import AttemptLost, Failed, JobEvent, Requeued
from core.log import tag_of
from core.records import Bounds
from core.redis import connect
from core.states import has_ended
from core.store import EventStore
from migrations.runner import shard_count
from tests.store.audit import audit, whole_log

ENDINGS = {"completed", "failed", "cancelled", "expired"}


class Verdict(Struct, frozen=True, kw_only=True):
    """What a store holds, once the audit has passed."""

    open_jobs: tuple[str, ...]
    lives: int
    endings: int
    lost: dict[str, int]  # Attempts, by why.
    poisoned: tuple[str, ...]
    regions: dict[str, str]  # What the heads have of the field that only the next release knows.
    schemas: dict[str, int]  # How many log entries were written under each.


async def judge(store: EventStore) -> Verdict:
    """Raises AssertionError if the store is not what its log says."""
    heads = await audit(store)
    told: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    schemas: Counter[str] = Counter()
    poisoned = []
    for keys in store.shards:
        for _, fields in await store.client.execute_command("XRANGE", keys.log, "-", "+"):
            schemas[fields[b"s"].decode()] += 1
        for entry in await whole_log(store, keys.shard):
            if isinstance(entry.event, JobEvent):
                told[tag_of(entry.event)] += 1
            if isinstance(entry.event, AttemptLost):
                lost[entry.event.why.value] += 1
            if isinstance(entry.event, Failed) and entry.event.lost_workers:
                poisoned.append(entry.subject)
    return Verdict(
        open_jobs=tuple(job for job, head in heads.items() if not has_ended(head.job)),
        lives=told["submitted"] + told[str(Requeued.__struct_config__.tag)],
        endings=sum(told[tag] for tag in ENDINGS),
        lost=dict(lost),
        poisoned=tuple(poisoned),
        regions={job: structs.asdict(head.job).get("region", "") for job, head in heads.items()},
        schemas=dict(schemas),
    )


async def main() -> None:
    client = connect(os.environ["REDIS_URL"])
    store = EventStore(client, await shard_count(client), Bounds())
    verdict = await judge(store)
    await client.aclose()
    sys.stdout.write(msgspec.json.encode(verdict).decode())


if __name__ == "__main__":
    asyncio.run(main())
