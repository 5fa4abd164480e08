"""The head of a job: its newest state as a Redis hash of small fields.

Small fields keep the hash in Redis's compact encoding and readable with redis-cli. Beside the state's
own fields a head has `schema` (and `readable_from`), `entry` (the lane entry), `due_at` and `deadline_at` (milliseconds),
and a field for each version, with the id of its log entry.
"""

from collections.abc import Iterable
from functools import cache
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


def position_of(entry_id: str) -> tuple[int, int]:
    """Where a stream entry's id stands among others: as text they do not sort."""
    return milliseconds_of(entry_id), int(entry_id.partition("-")[2])


def changes(before: Struct | None, after: Struct) -> tuple[list[Value], list[str]]:
    """What to set (field, value, field, value, …) and what to clear, from one state to the next.

    A field that has its default is not stored.
    """
    to_set: list[Value] = []
    to_clear: list[str] = []
    config = after.__struct_config__
    if config.tag_field is not None and type(before) is not type(after):
        to_set += (config.tag_field, str(config.tag))
    for name, default in _defaults(type(after)):
        new = getattr(after, name)
        if new == getattr(before, name, default):
            continue
        if new == default:
            to_clear.append(name)
        else:
            to_set += (name, _stored(new))
    if before is not None:
        for name, default in _dropped(type(before), type(after)):
            if getattr(before, name) != default:
                to_clear.append(name)
    return to_set, to_clear


@cache
def _defaults(kind: type[Struct]) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.default) for field in msgspec.structs.fields(kind))


@cache
def _dropped(before: type[Struct], after: type[Struct]) -> tuple[tuple[str, Any], ...]:
    """The fields that the next state does not have."""
    kept = after.__struct_fields__
    return tuple((name, default) for name, default in _defaults(before) if name not in kept)


def _stored(value: Any) -> Value:
    """Text and numbers as they are; what is neither as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return int(value)
    return msgspec.json.encode(value).decode()


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
    texts = [item.decode() for item in flat]
    stored = dict(zip(texts[::2], texts[1::2], strict=True))
    fields: dict[str, Any] = stored
    schema = int(stored.get("schema", SCHEMA))
    if schema != SCHEMA:
        fields = upcast("head", dict(stored), schema, _integer(stored.get("readable_from")))
    for name in _STRUCTURED & fields.keys():
        fields[name] = msgspec.json.decode(fields[name])
    try:
        state = msgspec.convert(fields, kind, strict=False)
        log_ids = tuple([stored[str(version)] for version in range(1, state.version + 1)])
    except (msgspec.ValidationError, KeyError) as error:
        raise FromTheFuture(f"a stored head cannot be read ({error}): upgrade it") from error
    return state, log_ids, stored


def _integer(text: str | None) -> int | None:
    return None if text is None else int(text)
