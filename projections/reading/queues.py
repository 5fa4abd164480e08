"""Queues as operators see them: depth, who waits longest, rates, and how long waits and runs take."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct, field

from core.events import Priority
from core.redis import answering
from projections.building import clock_ms
from projections.names import HOUR_MS, MINUTE_MS
from projections.queues import DEPTHS, PULSE, percentile_ms
from projections.reading.jobs import flat, lane_of
from projections.reading.position import Position, Reader
from projections.rows import JobRow, decode

_RATE_MS: Final = 5 * MINUTE_MS


class Percentiles(Struct, frozen=True):
    """Of the last hour, in seconds; None if there was nothing."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None


class QueueView(Struct, frozen=True, kw_only=True):
    """A queue as the views have it."""

    name: str
    paused: bool = False
    waiting: int = 0
    waiting_by_priority: dict[str, int] = field(default_factory=dict)
    scheduled: int = 0
    running: int = 0
    oldest_waiting_seconds: float | None = None
    arrived_per_minute: float = 0.0  # Over the last five minutes, like `finished_per_minute`.
    finished_per_minute: float = 0.0
    wait_seconds: Percentiles = Percentiles()
    run_seconds: Percentiles = Percentiles()


Pulses = list[tuple[int, Mapping[str, int]]]  # The start of each minute, and its counters.


async def queues(reader: Reader) -> tuple[Position, list[QueueView]]:
    """Every queue that has jobs, had some within the hour, or was ever paused, by name.

    Raises StoreNotReady, StoreUnavailable.
    """
    now_ms = await clock_ms(reader.store)
    position, depths, pulses = await _counters(reader, now_ms)
    oldest = await _oldest(reader)
    paused = await _paused(reader)
    names = {name.split(":")[0] for name in depths} | oldest.keys() | paused
    names |= {name.split(":")[0] for _, fields in pulses for name in fields}
    views = [
        _view(name, depths, pulses, name in paused, oldest.get(name), now_ms)
        for name in sorted(names)
    ]
    return position, views


async def drained_per_second(reader: Reader, queue: str, model: str) -> float:
    """How many jobs of a queue and model ended each second, over the last five minutes."""
    now_ms = await clock_ms(reader.store)
    _, _, pulses = await _counters(reader, now_ms, _RATE_MS)
    return per_minute(pulses, f"{queue}:finished:{model}", now_ms) / 60


async def _counters(
    reader: Reader, now_ms: int, span_ms: int = HOUR_MS
) -> tuple[Position, Counter[str], Pulses]:
    buckets = PULSE.keys(now_ms - span_ms, now_ms)
    position, replies = await reader.ask(
        "views_hashes", lambda view: [view.keys.named(name) for name in (DEPTHS, *buckets)]
    )
    summed = [_sum(hashes) for hashes in zip(*replies, strict=True)]
    starts = (int(name.partition(":")[2]) * 1_000 for name in buckets)
    return position, summed[0], list(zip(starts, summed[1:], strict=True))


def _sum(hashes: Iterable[list[bytes]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for pairs in hashes:
        for name, value in flat(pairs).items():
            total[name] += int(value)
    return total


async def _oldest(reader: Reader) -> dict[str, int]:
    """Since when the first of each queue's lines has waited, in milliseconds since 1970."""
    _, replies = await reader.ask(
        "views_lines",
        lambda view: [view.keys.names, view.keys.rows],
        lambda view: {"prefix": view.keys.prefix},
    )
    oldest: dict[str, int] = {}
    for lines in replies:
        for line, _, stored in lines:
            row = decode(stored)
            if isinstance(row, JobRow):
                queue = lane_of(line.decode()).queue
                oldest[queue] = min(row.since_ms, oldest.get(queue, row.since_ms))
    return oldest


async def _paused(reader: Reader) -> set[str]:
    """Queues that are paused: what the append keeps of it on shard 0, which is exact."""
    async with answering():
        names: set[bytes] = await reader.store.client.execute_command(
            "SMEMBERS", reader.store.shards[0].paused
        )
    return {name.decode() for name in names}


def _view(
    name: str,
    depths: Mapping[str, int],
    pulses: Pulses,
    is_paused: bool,
    oldest_ms: int | None,
    now_ms: int,
) -> QueueView:
    waiting = {priority.value: depths.get(f"{name}:waiting.{priority}", 0) for priority in Priority}
    return QueueView(
        name=name,
        paused=is_paused,
        waiting=sum(waiting.values()),
        waiting_by_priority=waiting,
        scheduled=depths.get(f"{name}:scheduled", 0),
        running=depths.get(f"{name}:running", 0),
        oldest_waiting_seconds=None if oldest_ms is None else max(0, now_ms - oldest_ms) / 1_000,
        arrived_per_minute=per_minute(pulses, f"{name}:arrived:", now_ms),
        finished_per_minute=per_minute(pulses, f"{name}:finished:", now_ms),
        wait_seconds=_percentiles(pulses, f"{name}:wait."),
        run_seconds=_percentiles(pulses, f"{name}:run."),
    )


def per_minute(pulses: Pulses, prefix: str, now_ms: int) -> float:
    """The rate over the last five minutes, of which the running one is not yet over."""
    first_ms = now_ms - now_ms % MINUTE_MS - _RATE_MS + MINUTE_MS
    counted = sum(
        count
        for start_ms, fields in pulses
        if start_ms >= first_ms
        for name, count in fields.items()
        if name.startswith(prefix)
    )
    return round(counted * MINUTE_MS / (now_ms - first_ms), 3)


def _percentiles(pulses: Pulses, prefix: str) -> Percentiles:
    counts: defaultdict[int, int] = defaultdict(int)
    for _, fields in pulses:
        for name, count in fields.items():
            if name.startswith(prefix):
                counts[int(name.removeprefix(prefix).partition(":")[0])] += count
    found = [percentile_ms(counts, share) for share in (0.5, 0.9, 0.99)]
    return Percentiles(*(None if ms is None else round(ms / 1_000, 4) for ms in found))
