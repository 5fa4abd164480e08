"""What a view has, what the fold of its log says that it should have, and jobs that do a bit of everything."""

import asyncio
from collections.abc import Iterable
from random import Random
from typing import Any

from core.commands import Cancel, Claim, Command, Complete, Expire, Fail, Lose, Requeue
from core.errors import Conflict
from core.events import ErrorKind, JobError, LostBecause, Priority, Timings, Usage
from core.job import CommandRefused, decide
from core.states import Job
from core.store import EventStore
from projections.checkpoint import Moved, View
from projections.feed import parse, read
from projections.fold import Batch
from projections.generations import serving
from projections.pruning import is_over
from projections.runner import Runner
from tests.given import CHAT, new_id, submitted

Contents = dict[str, Any]

_CATCH_UP_SECONDS = 20.0


async def contents(store: EventStore, view: View) -> Contents:
    """All that a view has, by name."""
    client: Any = store.client
    rows = await client.hgetall(view.keys.rows)
    found: Contents = {"rows": {subject.decode(): row for subject, row in rows.items()}}
    for name in await view.names():
        key = view.keys.named(name)
        if await client.type(key) == b"zset":
            members = await client.zrange(key, 0, -1, withscores=True)
            found[name] = {member.decode(): int(score) for member, score in members}
        else:
            fields = await client.hgetall(key)
            found[name] = {field.decode(): int(value) for field, value in fields.items()}
    return found


async def fold_of_the_log(store: EventStore, view: View) -> Contents:
    """What a view should have at its checkpoint, folded anew in one go."""
    at = await view.checkpoint()
    shard = view.keys.shard
    raws = await read(store, shard, "0-0", 10**6)
    run = parse(store.shards[shard], raws, 0, "0-0")
    batch = Batch({}, (), at.horizon)
    for entry in run.entries[: at.sequence]:
        batch.add_or_park(entry)  # type: ignore[arg-type]
    changes = batch.changes()
    found: Contents = {"rows": changes.rows}
    for name, members in changes.places.items():
        found[name] = {member: score for member, score in members.items() if score is not None}
    found |= {name: fields for name, fields in changes.added.items() if fields}
    return {
        name: what
        for name, what in found.items()
        if name == "rows" or (what and not is_over(name, at.horizon.counts_ms))
    }


async def check_views(store: EventStore) -> None:
    """Assert that every view stands at the end of its log, and is the fold of it."""
    for view in (await serving(store)).views(store):
        end = int(await store.client.get(store.shards[view.keys.shard].sequence) or 0)
        assert (await view.checkpoint()).sequence == end
        assert await contents(store, view) == await fold_of_the_log(store, view)


async def catch_up(store: EventStore, batch_entries: int = 7, *, strict: bool = False) -> None:
    """Fold all that there is, in small batches, whoever else does."""
    for view in (await serving(store)).views(store):
        runner = Runner(store, view, batch_entries=batch_entries, strict=strict)
        async with asyncio.timeout(_CATCH_UP_SECONDS):
            while await _moves(runner):
                pass


async def _moves(runner: Runner) -> bool:
    try:
        return bool(await runner.advance())
    except Moved:
        await asyncio.sleep(0)
        return True


async def lives(store: EventStore, count: int, random: Random) -> None:
    """So many jobs, each of which goes through some of what can happen to one."""
    await asyncio.gather(*(_life(store, random) for _ in range(count)))


async def _life(store: EventStore, random: Random) -> None:
    job_id = new_id(random.randrange(len(store.shards)))
    fact = submitted(
        queue=random.choice(["default", "batch"]),
        model=random.choice(["echo", "llama3.2:1b"]),
        tenant=random.choice(["default", "team:a", "50%"]),
        priority=random.choice(list(Priority)),
        delay_ms=random.choice([0, 0, 0, 60_000]),
        deadline_ms=random.choice([None, 60_000]),
        metadata=random.choice([{}, {"user": "ann"}]),
        key=random.choice([None, "k-1", "k-2"]),
    )
    job = (await store.submit(job_id, fact)).job
    for _ in range(random.randrange(8)):
        for command in _commands(job, random):
            try:
                job = (await store.append(job_id, job, decide(job, command))).job
                break
            except CommandRefused:
                continue
            except Conflict as conflict:
                job = conflict.newer or job


def _commands(job: Job, random: Random) -> Iterable[Command]:
    """What somebody may want of the job, in random order; the first that is allowed happens."""
    error = JobError(random.choice(list(ErrorKind)), "it went wrong")
    wanted: list[Command] = [
        Claim(f"worker-{random.randrange(3)}"),
        Claim(f"worker-{random.randrange(3)}"),
        Complete(job.claims, CHAT, Timings(ran_ms=5), Usage(3, 4, 7)),
        Fail(job.claims, error, jitter=0.5),
        Lose(job.claims, random.choice(list(LostBecause)), 3),
        Cancel("somebody"),
        Requeue("operator"),
        Expire(),
    ]
    random.shuffle(wanted)
    return wanted
