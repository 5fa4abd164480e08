"""The head of a job: its newest state as a Redis hash of small fields.

Small fields keep the hash in Redis's compact encoding and readable with redis-cli. Beside the state's
own fields a head has `schema`, `entry` (the lane entry), `due_at` and `deadline_at` (milliseconds),
and a field for each version, with the id of its log entry.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any

import msgspec
from msgspec import Struct

from core.errors import FromTheFuture
from core.states import Job
from core.upcast import SCHEMA, upcast

Value = str | int

# The fields of any state that are neither text nor number.
_STRUCTURED = frozenset({"lost_workers", "queues", "models", "gpus"})


class Head(Struct, frozen=True):
    """A job as it is now, and where in the log its history is."""

    job: Job
    log_ids: tuple[str, ...]  # By version, from 1 on.
    entry: str | None = None
    due_at_ms: int | None = None
    deadline_at_ms: int | None = None

    def time_ms(self, version: int) -> int:
        """When a version came to be, by Redis's clock."""
        return milliseconds_of(self.log_ids[version - 1])


def milliseconds_of(entry_id: str) -> int:
    """The time in a stream entry's id."""
    return int(entry_id.partition("-")[0])


def fields_of(state: Struct) -> dict[str, Value]:
    """A state as hash fields. What is neither text nor number is stored as JSON."""
    fields: dict[str, Any] = msgspec.to_builtins(state)
    for name in _STRUCTURED & fields.keys():
        fields[name] = msgspec.json.encode(fields[name]).decode()
    return fields


def changes(before: Struct | None, after: Struct) -> tuple[list[Value], list[str]]:
    """What to set (field, value, field, value, …) and what to clear, from one state to the next."""
    new = fields_of(after)
    if before is None:
        return list(chain.from_iterable(new.items())), []
    old = fields_of(before)
    to_set: list[Value] = []
    for name, value in new.items():
        if old.get(name) != value:
            to_set += (name, value)
    return to_set, [name for name in old if name not in new]


def head_of(flat: Iterable[bytes]) -> Head | None:
    """Read a head from a flat reply; None for an empty one, which means that there is no such job.

    Raises FromTheFuture if a newer release wrote it.
    """
    if not flat:
        return None
    job, log_ids, fields = read_fields(flat, Job)
    return Head(
        job=job,
        log_ids=log_ids,
        entry=fields.get("entry"),
        due_at_ms=_integer(fields.get("due_at")),
        deadline_at_ms=_integer(fields.get("deadline_at")),
    )


def read_fields(flat: Iterable[bytes], kind: Any) -> tuple[Any, tuple[str, ...], dict[str, str]]:
    """A state of type `kind` from a flat reply, the log id of each version, and all fields.

    Raises FromTheFuture if a newer release wrote it.
    """
    stored, log_ids = _split(flat)
    fields: dict[str, Any] = dict(stored)
    schema = int(stored.get("schema", SCHEMA))
    if schema != SCHEMA:
        fields = upcast("head", fields, schema)
    for name in _STRUCTURED & fields.keys():
        fields[name] = msgspec.json.decode(fields[name])
    try:
        state = msgspec.convert(fields, kind, strict=False)
        return state, tuple(log_ids[at] for at in range(1, state.version + 1)), stored
    except (msgspec.ValidationError, KeyError) as error:
        raise FromTheFuture(f"a stored head cannot be read: {error}") from error


def _split(flat: Iterable[bytes]) -> tuple[dict[str, str], dict[int, str]]:
    fields: dict[str, str] = {}
    log_ids: dict[int, str] = {}
    pairs = iter(flat)
    for name, value in zip(pairs, pairs, strict=True):
        if name.isdigit():
            log_ids[int(name)] = value.decode()
        else:
            fields[name.decode()] = value.decode()
    return fields, log_ids


def _integer(text: str | None) -> int | None:
    return None if text is None else int(text)
