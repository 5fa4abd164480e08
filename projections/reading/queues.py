"""Queues as operators see them: depth, who waits longest, rates, and how long waits and runs take."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct, field

from core.events import Priority
from core.redis import answering
from core.states import Lane
from projections.building import clock_ms
from projections.names import HOUR_MS, MINUTE_MS
from projections.queues import DEPTHS, PULSE, line_key, percentile_ms
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


class Place(Struct, frozen=True):
    """Where a job stands in line."""

    before: int  # How many wait for the same queue and model, and are claimed earlier.
    drained_per_second: float  # How many of these have ended each second, in the last minutes.


async def queues(reader: Reader) -> tuple[Position, list[QueueView]]:
    """Every queue that has jobs, had some within the hour, or is paused, by name.

    Raises StoreNotReady, StoreUnavailable.
    """
    now_ms = await clock_ms(reader.store)
    paused = await _paused(reader)
    position, replies = await reader.ask(
        "views_queues",
        lambda view: [
            view.keys.names,
            view.keys.rows,
            *(view.keys.named(name) for name in (DEPTHS, *PULSE.keys(now_ms - HOUR_MS, now_ms))),
        ],
        lambda view: {"prefix": view.keys.prefix, "recent": len(_recent(now_ms))},
    )
    depths, lines, hour, recent = zip(*replies, strict=True)
    oldest = _oldest(lines)
    of_hour = _by_queue(hour)
    of_recent, depth_of = _by_queue(recent), _by_queue(depths)
    names = depth_of.keys() | oldest.keys() | of_hour.keys() | paused
    return position, [
        _view(
            name,
            depth_of.get(name, {}),
            of_hour.get(name, {}),
            _per_minute(of_recent.get(name, {}), now_ms),
            is_paused=name in paused,
            oldest_seconds=max(0, now_ms - oldest[name]) / 1_000 if name in oldest else None,
        )
        for name in sorted(names)
    ]


async def place_of(reader: Reader, job_id: str, shard: int, queue: str, model: str) -> Place | None:
    """Where a job stands in line; None if it does not wait. Raises StoreNotReady, StoreUnavailable.

    Only its own shard's lines are looked at, of which each is in order.
    """
    now_ms = await clock_ms(reader.store)
    lines = [line_key(lane, queue, model) for lane in Lane]
    names = (*lines, *_recent(now_ms))
    _, replies = await reader.ask(
        "views_rank",
        lambda view: [view.keys.named(name) for name in names],
        lambda _: {"job": job_id, "lines": len(lines), "finished": f"{queue}:finished:{model}"},
    )
    before = replies[shard][0]
    ended = sum(count for _, count in replies)
    return Place(before, ended / _recent_seconds(now_ms)) if before >= 0 else None


async def paces(reader: Reader) -> tuple[Position, dict[str, float]]:
    """How many jobs of each queue have ended each second, in the last minutes.

    Raises StoreNotReady, StoreUnavailable.
    """
    now_ms = await clock_ms(reader.store)
    names = _recent(now_ms)
    position, replies = await reader.ask(
        "views_hashes", lambda view: [view.keys.named(name) for name in names]
    )
    buckets = (bucket for shard in replies for bucket in shard)
    seconds = _recent_seconds(now_ms)
    return position, {
        queue: counts["finished"] / seconds for queue, counts in _by_queue(buckets).items()
    }


def _recent(now_ms: int) -> list[str]:
    """The names of the buckets over which rates are counted, of which the last is not yet over."""
    return PULSE.keys(now_ms - _RATE_MS + MINUTE_MS, now_ms)


def _recent_seconds(now_ms: int) -> float:
    return (_RATE_MS - MINUTE_MS + now_ms % MINUTE_MS) / 1_000


def _oldest(shards: Iterable[list[bytes]]) -> dict[str, int]:
    """Since when the first of each queue's lines has waited, in milliseconds since 1970."""
    oldest: dict[str, int] = {}
    for line, stored in (one for lines in shards for one in flat(lines).items()):
        row = decode(stored)
        if isinstance(row, JobRow):
            queue = lane_of(line).queue
            oldest[queue] = min(row.since_ms, oldest.get(queue, row.since_ms))
    return oldest


def _by_queue(shards: Iterable[list[bytes]]) -> dict[str, Counter[str]]:
    """Counters of each queue: by what they count, whatever the model, summed over the shards."""
    queues: dict[str, Counter[str]] = {}
    for name, count in (one for counters in shards for one in flat(counters).items()):
        queue, what, *_ = name.split(":", 2)
        queues.setdefault(queue, Counter())[what] += int(count)
    return queues


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
    hour: Mapping[str, int],
    rates: tuple[float, float],
    *,
    is_paused: bool,
    oldest_seconds: float | None,
) -> QueueView:
    waiting = {priority.value: depths.get(f"waiting.{priority}", 0) for priority in Priority}
    arrived, finished = rates
    return QueueView(
        name=name,
        paused=is_paused,
        waiting=sum(waiting.values()),
        waiting_by_priority=waiting,
        scheduled=depths.get("scheduled", 0),
        running=depths.get("running", 0),
        oldest_waiting_seconds=oldest_seconds,
        arrived_per_minute=arrived,
        finished_per_minute=finished,
        wait_seconds=_percentiles(hour, "wait."),
        run_seconds=_percentiles(hour, "run."),
    )


def _per_minute(recent: Mapping[str, int], now_ms: int) -> tuple[float, float]:
    """How many arrived and how many ended a minute, in the last minutes."""
    minutes = _recent_seconds(now_ms) / 60
    arrived, finished = (recent.get(what, 0) / minutes for what in ("arrived", "finished"))
    return round(arrived, 3), round(finished, 3)


def _percentiles(hour: Mapping[str, int], what: str) -> Percentiles:
    counts = {
        int(name.removeprefix(what)): count for name, count in hour.items() if name.startswith(what)
    }
    found = [percentile_ms(counts, share) for share in (0.5, 0.9, 0.99)]
    return Percentiles(*(None if ms is None else round(ms / 1_000, 4) for ms in found))
