"""The log as one flat table: a row for each entry, with what its job is beside what the entry says. Pure.

A column means the same in every row that has it, so that a question needs no join: the queue, the model and
the tenant stand beside every transition of a job, how long it had waited beside its claim, and how long it
had had its slot beside the end of an attempt.
"""

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from core import events
from core.ids import shard_of
from core.log import BODIES, LogEntry, tag_of
from core.states import Queued, Running, status_of
from projections.past.cluster import Step
from projections.rows import JobRow, QueueRow, WorkerRow


class Column(StrEnum):
    """What a column holds."""

    TEXT = "text"
    WHOLE = "whole number"
    TIME = "time"  # In milliseconds since 1970.
    NAMES = "list of names"
    JSON = "JSON"


COLUMNS: Final[Mapping[str, Column]] = {
    "position": Column.TEXT,  # In the log of its shard.
    "shard": Column.WHOLE,
    "sequence": Column.WHOLE,  # Dense within the shard.
    "at": Column.TIME,
    "type": Column.TEXT,
    "job_id": Column.TEXT,  # Of a job's entry.
    "worker": Column.TEXT,  # Whose entry it is, or which worker it names.
    "queue": Column.TEXT,
    "version": Column.WHOLE,
    "status": Column.TEXT,  # After this entry.
    "model": Column.TEXT,
    "kind": Column.TEXT,
    "priority": Column.TEXT,
    "tenant": Column.TEXT,
    "key": Column.TEXT,
    "waited_ms": Column.WHOLE,  # In line, beside a claim.
    "slot_ms": Column.WHOLE,  # In its slot, beside the end of an attempt.
    "claim": Column.WHOLE,
    "attempt": Column.WHOLE,
    "attempts": Column.WHOLE,
    "deliveries": Column.WHOLE,
    "delay_ms": Column.WHOLE,
    "deadline_ms": Column.WHOLE,
    "timeout_ms": Column.WHOLE,
    "attempts_max": Column.WHOLE,
    "error_kind": Column.TEXT,
    "error_message": Column.TEXT,
    "error_retry_after_ms": Column.WHOLE,
    "usage_prompt_tokens": Column.WHOLE,
    "usage_completion_tokens": Column.WHOLE,
    "usage_total_tokens": Column.WHOLE,
    "timings_ran_ms": Column.WHOLE,
    "timings_first_token_ms": Column.WHOLE,
    "chunks": Column.WHOLE,
    "why": Column.TEXT,
    "by": Column.TEXT,
    "reason": Column.TEXT,
    "lost_workers": Column.NAMES,
    "capacity": Column.WHOLE,
    "running": Column.WHOLE,
    "queues": Column.NAMES,
    "models": Column.NAMES,
    "upstream": Column.TEXT,
    "host": Column.TEXT,
    "gpus": Column.JSON,
    "metadata": Column.JSON,
    "traceparent": Column.TEXT,
}
CONTENTS: Final[Mapping[str, Column]] = {
    "request": Column.TEXT,
    "result": Column.TEXT,
}  # What people wrote and read.

Row = dict[str, Any]


def row_of(entry: LogEntry, step: Step | None, *, with_contents: bool) -> Row:
    """An entry as a row, without what it has not; times in milliseconds since 1970."""
    row: Row = {"position": entry.id, "shard": 0, "sequence": entry.sequence, "at": entry.at_ms}
    row["type"] = tag_of(entry.event)
    kind, is_other, name = entry.subject.partition(":")
    if is_other:
        row[kind] = name
    else:
        row["job_id"], row["shard"] = entry.subject, shard_of(entry.subject)
    row["version"] = entry.version
    if step is not None:
        _add_subject(row, step)
    _add_event(row, entry.event, with_contents=with_contents)
    return row


def _add_subject(row: Row, step: Step) -> None:
    """What the entry's subject is."""
    match step.after:
        case JobRow(job=job):
            row |= {
                "status": status_of(job),
                "queue": job.queue,
                "model": job.model,
                "kind": job.kind.value,
                "priority": job.priority.value,
                "tenant": job.tenant,
            }
            if job.key is not None:
                row["key"] = job.key
            _add_durations(row, step.before, step.after)
        case WorkerRow(worker=worker):
            row["status"] = worker.status.value
        case QueueRow(queue=queue):
            row["status"] = "paused" if queue.paused else "open"


def _add_durations(row: Row, before: Any, after: JobRow) -> None:
    if not isinstance(before, JobRow):
        return
    if isinstance(before.job, Queued) and isinstance(after.job, Running):
        row["waited_ms"] = row["at"] - before.since_ms
    elif isinstance(before.job, Running) and not isinstance(after.job, Running):
        row["worker"] = before.job.worker
        row["slot_ms"] = row["at"] - before.claimed_ms


def _add_event(row: Row, event: events.Event, *, with_contents: bool) -> None:
    """What the event says; what is in a Struct of its own by both names."""
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if value is None or (isinstance(value, tuple | dict) and not value):
            continue
        if name in BODIES:
            if with_contents:
                row[name] = bytes(value).decode(errors="replace")
        elif isinstance(value, Struct):
            for part, inner in structs.asdict(value).items():
                if inner is not None:
                    row[f"{name}_{part}"] = _plain(inner)
        else:
            row[name] = _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return msgspec.to_builtins(value) if isinstance(value, tuple) else value
