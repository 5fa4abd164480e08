"""Workers as operators see them: what each is, runs now, and has done in the last day."""

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from core.roster import Member, Roster
from projections.building import clock_ms
from projections.names import DAY_MS
from projections.reading.jobs import flat
from projections.reading.position import Position, Reader
from projections.rows import Transition, WorkerRow, decode
from projections.workers import DONE, running_key


class RunningJob(Struct, frozen=True):
    """A job that a worker runs, and for how long."""

    id: str
    seconds: float


class GpuView(Struct, frozen=True):
    """A device of a worker, and how full it is, whoever uses it; None if its worker has not said so."""

    index: int
    name: str
    memory_bytes: int
    used_bytes: int | None


class WorkerView(Struct, frozen=True, kw_only=True):
    """A worker: its facts and heartbeat as they are now, its jobs as the views have them."""

    name: str
    status: str
    alive: bool
    capacity: int
    running: list[RunningJob]
    queues: tuple[str, ...]
    models: tuple[str, ...]
    upstream: str
    host: str
    gpus: tuple[GpuView, ...]
    started_ms: int
    last_seen_ms: int | None = (
        None  # Its last heartbeat, or its last word; None if it has not begun.
    )
    done: dict[str, int]  # In the last day: how attempts ended, by event.
    history: tuple[Transition, ...] = ()


async def workers(reader: Reader) -> tuple[Position, list[WorkerView]]:
    """Every worker that there is, or was within the retention time, the newest first.

    Raises StoreNotReady, StoreUnavailable.
    """
    members = await Roster(reader.store).members()
    now_ms = await clock_ms(reader.store)
    subjects = [f"worker:{member.name}" for member in members]
    running = [running_key(member.name) for member in members]
    buckets = DONE.keys(now_ms - DAY_MS, now_ms)
    position, replies = await reader.ask(
        "views_working",
        lambda view: [view.keys.rows, *(view.keys.named(name) for name in buckets)],
        lambda view: {"prefix": view.keys.prefix, "subjects": subjects, "running": running},
    )
    done = _done(reply[0] for reply in replies)
    views = []
    for at, member in enumerate(members):
        found = [reply[at + 1] for reply in replies]
        row = next((decode(row) for row, _ in found if row), None)
        history = row.history if isinstance(row, WorkerRow) else ()
        jobs = [job for _, pairs in found for job in _running(pairs, now_ms)]
        views.append(
            WorkerView(
                name=member.name,
                status=member.worker.status.value,
                alive=member.heartbeat is not None,
                capacity=member.worker.capacity,
                running=jobs,
                queues=member.worker.queues,
                models=tuple(sorted(member.models)),
                upstream=member.worker.upstream,
                host=member.worker.host,
                gpus=_gpus(member),
                started_ms=member.started_at_ms,
                last_seen_ms=now_ms if member.heartbeat else _last_word_ms(history),
                done=done.get(member.name, {}),
                history=history,
            )
        )
    return position, sorted(views, key=lambda view: -view.started_ms)


def _gpus(member: Member) -> tuple[GpuView, ...]:
    said = member.heartbeat.gpus if member.heartbeat else ()
    used = {one.index: one.used_bytes for one in said}
    return tuple(
        GpuView(gpu.index, gpu.name, gpu.memory_bytes, used.get(gpu.index))
        for gpu in member.worker.gpus
    )


def _running(pairs: list[bytes], now_ms: int) -> list[RunningJob]:
    return [
        RunningJob(job, max(0, now_ms - int(float(since))) / 1_000)
        for job, since in flat(pairs).items()
    ]


def _last_word_ms(history: tuple[Transition, ...]) -> int | None:
    return history[-1].at_ms if history else None


def _done(shards: Iterable[list[bytes]]) -> dict[str, Counter[str]]:
    """How often each worker's attempts ended how."""
    done: dict[str, Counter[str]] = {}
    for name, count in (one for counters in shards for one in flat(counters).items()):
        what, _, worker = name.partition(":")
        done.setdefault(worker, Counter())[what] += int(count)
    return done
