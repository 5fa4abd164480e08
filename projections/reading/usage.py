"""Usage and outcomes, summed from their buckets of time."""

from collections import Counter
from datetime import UTC, date, datetime

from msgspec import Struct

from projections.building import clock_ms
from projections.names import HOUR_MS, unescaped
from projections.outcomes import HOURLY
from projections.projection import Series
from projections.reading.jobs import flat
from projections.reading.position import Position, Reader
from projections.usage import DAILY


class UsageView(Struct, frozen=True, kw_only=True):
    """What a tenant asked of a model on a day (of UTC)."""

    day: str
    tenant: str
    model: str
    requests: int = 0
    completed: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class OutcomeView(Struct, frozen=True, kw_only=True):
    """How often attempts or jobs ended in one way."""

    queue: str
    model: str
    outcome: str  # The event: `completed`, `failed`, `attempt_lost`, …
    error: str | None = None  # Its kind, or why it was lost.
    count: int


async def usage(
    reader: Reader, first: date, last: date, tenant: str | None = None, model: str | None = None
) -> tuple[Position, list[UsageView]]:
    """Usage of each day from the first to the last, newest day first. Raises StoreNotReady, StoreUnavailable."""
    from_ms, to_ms = _start_ms(first), _start_ms(last)
    position, buckets = await _sums(reader, DAILY, from_ms, to_ms)
    views = []
    for start_ms, counts in buckets:
        by_model: dict[tuple[str, str], dict[str, int]] = {}
        for name, count in counts.items():
            of, what, to = name.split(":", 2)
            if tenant in {None, unescaped(of)} and model in {None, to}:
                by_model.setdefault((unescaped(of), to), {})[what] = count
        day = (datetime.fromtimestamp(start_ms / 1_000, UTC)).date().isoformat()
        for (of, to), what_of in sorted(by_model.items()):
            total = what_of.get("prompt_tokens", 0) + what_of.get("completion_tokens", 0)
            views.append(UsageView(day=day, tenant=of, model=to, total_tokens=total, **what_of))
    return position, sorted(views, key=lambda view: view.day, reverse=True)


async def outcomes(
    reader: Reader,
    hours: int,
    queue: str | None = None,
    model: str | None = None,
) -> tuple[Position, list[OutcomeView]]:
    """How attempts and jobs ended in the last so many hours. Raises StoreNotReady, StoreUnavailable."""
    now_ms = await clock_ms(reader.store)
    position, buckets = await _sums(reader, HOURLY, now_ms - (hours - 1) * HOUR_MS, now_ms)
    total: Counter[str] = Counter()
    for _, counts in buckets:
        total.update(counts)
    views = []
    for name, count in sorted(total.items()):
        of, what, to = name.split(":", 2)
        outcome, _, error = what.partition(".")
        if queue in {None, of} and model in {None, to}:
            views.append(
                OutcomeView(queue=of, model=to, outcome=outcome, error=error or None, count=count)
            )
    return position, views


async def _sums(
    reader: Reader, series: Series, from_ms: int, to_ms: int
) -> tuple[Position, list[tuple[int, Counter[str]]]]:
    """The buckets of a span, each summed over all shards, with the time when it began."""
    names = series.keys(from_ms, to_ms)
    position, replies = await reader.ask(
        "views_hashes", lambda view: [view.keys.named(name) for name in names]
    )
    buckets = []
    for name, hashes in zip(names, zip(*replies, strict=True), strict=True):
        total: Counter[str] = Counter()
        for pairs in hashes:
            total.update({field: int(count) for field, count in flat(pairs).items()})
        buckets.append((int(name.partition(":")[2]) * 1_000, total))
    return position, buckets


def _start_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000
