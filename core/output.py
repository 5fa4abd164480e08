"""Output chunks of a job: a bounded, expiring stream beside the log.

A chunk's entry id is `CLAIM-SEQUENCE`: claims grow and sequences are dense from 1, so Redis itself
refuses what comes out of order, a reader resumes from the id it has, and a gap is provable.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from msgspec import Struct

from core import functions
from core.batching import Batcher
from core.keys import ShardKeys
from core.redis import answering
from core.store import EventStore

CHUNKS_MAX: Final = 20_000
CHUNKS_PER_LOOK: Final = 500
EXPIRES_MS: Final = 600_000  # After the last chunk: the result has all of it, and it stays longer.


class Chunk(Struct, frozen=True):
    """A piece of a job's answer: one JSON object of the upstream's stream."""

    claim: int
    sequence: int
    data: bytes

    @property
    def id(self) -> str:
        return f"{self.claim}-{self.sequence}"


class Write(Struct, frozen=True):
    """Chunks to write for a claim, from number `sequence` on."""

    job_id: str
    claim: int
    worker: str  # Who was given that claim.
    sequence: int
    chunks: tuple[bytes, ...]


class Emitter:
    """Writes chunks, those of many jobs together."""

    def __init__(self, store: EventStore, patience_seconds: float) -> None:
        self._store = store
        self._batchers = tuple(
            Batcher(partial(self._call, keys), _size_bytes, patience_seconds)
            for keys in store.shards
        )

    async def emit(self, write: Write) -> bool:
        """Write; False, and nothing written, if the claim is not the current one any more.

        Writing the same chunks again changes nothing. Raises StoreUnavailable.
        """
        shard = self._store.keys_of(write.job_id).shard
        return bool(await self._batchers[shard].send(write))

    async def _call(self, keys: ShardKeys, writes: list[Write]) -> list[int]:
        names: list[str] = []
        chunks: list[bytes] = []
        asks = []
        for write in writes:
            names += (keys.head(write.job_id), keys.output(write.job_id))
            asks.append(
                {
                    "job": write.job_id,
                    "claim": write.claim,
                    "worker": write.worker,
                    "sequence": write.sequence,
                    "first": len(chunks) + 2,  # ARGV[1] is the ask.
                    "count": len(write.chunks),
                }
            )
            chunks += write.chunks
        ask = {"writes": asks, "chunks_max": CHUNKS_MAX, "expires_ms": EXPIRES_MS}
        replies: list[int] = await functions.call(self._store.client, "emit", names, ask, chunks)
        return replies


def _size_bytes(write: Write) -> int:
    return sum(map(len, write.chunks))


async def read_output(
    store: EventStore, job_id: str, after: str = "0-0", count: int = CHUNKS_PER_LOOK
) -> list[Chunk]:
    """Up to `count` chunks after the one with id `after`, oldest first. Raises StoreUnavailable."""
    async with answering():
        entries = await store.client.execute_command(
            *chunks_after(store.keys_of(job_id), job_id, after, count)
        )
    return chunks_of(entries)


def chunks_after(keys: ShardKeys, job_id: str, after: str, count: int) -> tuple[Any, ...]:
    """The command that reads up to `count` chunks after one; `chunks_of` reads its reply."""
    return ("XRANGE", keys.output(job_id), f"({after}", "+", "COUNT", count)


def chunks_of(entries: Iterable[Any]) -> list[Chunk]:
    """The chunks in a reply."""
    chunks = []
    for entry_id, fields in entries:
        claim, sequence = entry_id.split(b"-")
        chunks.append(Chunk(int(claim), int(sequence), fields[b"d"]))
    return chunks
