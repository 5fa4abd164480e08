"""Entries of the log, and the only reading of what Redis says of them."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final, get_args

import msgspec
from msgspec import Raw, Struct

from core.errors import FromTheFuture, Unreadable
from core.events import AnyEvent, Event, JobEvent, Submitted
from core.head import milliseconds_of
from core.upcast import SCHEMA, is_as_today, upcast

_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_known_types = frozenset(str(cls.__struct_config__.tag) for cls in get_args(AnyEvent))
BODIES: Final = frozenset(
    field.name
    for cls in get_args(AnyEvent)
    for field in msgspec.structs.fields(cls)
    if field.type is Raw
)


class LogEntry(Struct, frozen=True):
    """One event where it stands in the log."""

    id: str  # Redis's: milliseconds, then a counter.
    at_ms: int  # When it happened, by Redis's clock.
    sequence: int  # Dense within the shard: a gap is a loss.
    subject: str  # A job's id, `worker:NAME` or `queue:NAME`.
    version: int
    operation: str
    event: AnyEvent


def tag_of(event: Event) -> str:
    """An event's name on the wire."""
    return tag_of_type(type(event))


@cache
def tag_of_type(kind: type[Event]) -> str:
    """The name on the wire of all events of a type."""
    return str(kind.__struct_config__.tag)


def decode_event(
    tag: str, data: bytes, schema: int = SCHEMA, readable_from: int | None = None
) -> AnyEvent:
    """Read an event.

    Raises FromTheFuture if its type or its schema is one that this release does not know, or a word in
    what a newer one wrote; Unreadable for what is no such event.
    """
    if tag not in _known_types:
        raise FromTheFuture(f"this release knows no event of type {tag!r}: upgrade it")
    try:
        if schema == SCHEMA or is_as_today(schema):
            return _decoder.decode(data)
        fields = upcast(tag, _fields_of(data), schema, readable_from)
        return _decoder.decode(msgspec.json.encode(fields))
    except msgspec.DecodeError as error:
        what = f"an event {tag!r} of schema {schema} cannot be read ({error})"
        if schema > SCHEMA:
            raise FromTheFuture(f"{what}: upgrade it") from error
        raise Unreadable(what) from error


def _fields_of(data: bytes) -> dict[str, Any]:
    """An event's fields for upcasters. Bodies stay what they are, byte for byte."""
    fields: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Raw])
    for name in fields.keys() - BODIES:
        fields[name] = msgspec.json.decode(fields[name])
    return fields


def entry_of(raw: Sequence[Any]) -> LogEntry:
    """Read one stream entry: `[id, {field: value}]`, or, from a function, `[id, [field, value, …]]`."""
    raw_id, fields = raw
    if not isinstance(fields, dict):
        pairs = iter(fields)
        fields = dict(zip(pairs, pairs, strict=True))
    entry_id = raw_id.decode()
    return LogEntry(
        id=entry_id,
        at_ms=milliseconds_of(entry_id),
        sequence=int(fields[b"q"]),
        subject=fields[b"j"].decode(),
        version=int(fields[b"v"]),
        operation=fields[b"o"].decode(),
        event=_event_in(fields),
    )


def _event_in(fields: dict[bytes, bytes]) -> AnyEvent:
    tag, data, schema = fields[b"t"].decode(), fields[b"d"], fields[b"s"]
    if schema == _TODAY:
        return decode_event(tag, data)
    return decode_event(tag, data, int(schema), int(fields[b"r"]) if b"r" in fields else None)


_TODAY: Final = str(SCHEMA).encode()


def submitted_in(raw: Sequence[Any] | None) -> Submitted | None:
    """The `submitted` event of a job's first entry; None if the entry was trimmed."""
    event = entry_of(raw).event if raw else None
    return event if isinstance(event, Submitted) else None


def job_events(entries: Iterable[LogEntry]) -> list[JobEvent]:
    """The events of job entries; whatever else is among them is left out."""
    return [entry.event for entry in entries if isinstance(entry.event, JobEvent)]
