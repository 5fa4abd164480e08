"""Jobs in which somebody wrote a word, wherever one can be written; and where that word still is."""

from pathlib import Path
from typing import Any

import zstandard
from msgspec import Raw
from redis.asyncio import Redis

from core import functions
from core.commands import (
    Cancel,
    Claim,
    Command,
    Complete,
    Enqueue,
    Expire,
    Fail,
    Forget,
    Lose,
    Requeue,
)
from core.events import ErrorKind, JobError, LostBecause, Timings, Usage
from core.output import Emitter, Write
from core.records import Bounds
from core.store import EventStore
from projections.forgetting.forget import Forgotten, forget
from projections.forgetting.selection import Who
from tests.archive.logs import archiver_of
from tests.given import a_job

WORD = "Kahlenbergerdorf"
PLAIN = "Nussdorf"
BY = Forget("operator", "ticket 7")


def saying(word: str) -> dict[str, Any]:
    """What a submission is made of in which somebody wrote a word."""
    return {
        "request": Raw(f'{{"messages":[{{"role":"user","content":"{word}"}}]}}'.encode()),
        "metadata": {"project": word},
    }


def answer(claim: int, word: str) -> Complete:
    result = Raw(f'{{"choices":[{{"message":{{"content":"{word}"}}}}]}}'.encode())
    return Complete(claim, result, Timings(ran_ms=5), Usage(3, 4, 7), chunks=1)


def refused(claim: int, kind: ErrorKind, word: str) -> Fail:
    return Fail(claim, JobError(kind, f"no such thing as {word}"), jitter=0.5)


async def ended_jobs(store: EventStore, tenant: str, word: str = WORD) -> dict[str, str]:
    """One job of each kind that has ended, by how it did."""
    told = saying(word) | {"tenant": tenant}
    overload, rejected = ErrorKind.OVERLOAD, ErrorKind.REJECTED
    lives: dict[str, list[Command]] = {
        "completed": [Claim("w1"), answer(1, word)],
        "completed at last": [
            *(Claim("w1"), refused(1, overload, word)),
            *(Enqueue(), Claim("w2"), answer(2, word)),
        ],
        "failed": [Claim("w1"), refused(1, rejected, word)],
        "lost": [Claim("w1"), Lose(1, LostBecause.LEASE_RAN_OUT, 1)],
        "cancelled": [Cancel("somebody", f"because of {word}")],
        "cancelled twice": [Cancel("a", word), Requeue("b"), Cancel("c", word)],
        "stopped": [
            *(Claim("w1"), Cancel("somebody", word)),
            Lose(1, LostBecause.DRAINED, 5),
        ],
        "expired": [Expire()],
    }
    retention_ms = store.bounds.retention_ms
    store = EventStore(store.client, 1, Bounds())  # None is gone before it has had its life.
    jobs, emitter = {}, Emitter(store, patience_seconds=2.0)
    for life, commands in lives.items():
        deadline = {"deadline_ms": 60_000} if life == "expired" else {}
        jobs[life] = job = await a_job(store, **told, **deadline)
        for command in commands:
            await store.execute(job, command)
            if isinstance(command, Claim):
                head = await store.require(job)
                await emitter.emit(Write(job, head.job.claims, command.worker, 1, (word.encode(),)))
    for job in jobs.values():
        await store.client.pexpire(store.shards[0].head(job), retention_ms)
    return jobs


async def forget_tenant(store: EventStore, tenant: str = "acme") -> Forgotten:
    return await forget(store, Who(tenant=tenant), BY)


async def archive_all(store: EventStore) -> None:
    """Archive what there is, by an archiver that lets go of its lease."""
    [keys] = store.shards
    await archiver_of(store).work(keys, close=True)
    await functions.call(store.client, "archive_release", [keys.archived], {"holder": "one"})


async def is_in_redis(client: Redis, word: str = WORD) -> bool:
    """Say whether Redis has a word anywhere in its memory, as a dump shows that: without compression."""
    config: Any = await client.config_get("dir", "dbfilename")
    await client.execute_command("SAVE")
    return word.encode() in (Path(config["dir"]) / config["dbfilename"]).read_bytes()


def is_on_disk(folder: Path, word: str = WORD) -> bool:
    """Say whether a file of an archive has a word."""
    return any(word.encode() in _plain(path) for path in folder.rglob("*") if path.is_file())


def _plain(path: Path) -> bytes:
    body = path.read_bytes()
    _, header, compressed = body.split(b"\n", 2)
    return header + zstandard.ZstdDecompressor().decompressobj().decompress(compressed)
