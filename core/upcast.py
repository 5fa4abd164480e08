"""Old stored shapes, read as today's.

Everything stored says which schema wrote it. A reader passes what an older release wrote through the
chain of upcasters below, one step a schema, before it is decoded; so the rest of the program knows
one shape only. The append writes an older head anew, whole, when it first changes it.

What a newer release wrote is never written over: this one would drop what it does not know. It is read
if the newer release says so (READABLE_FROM), so that an API which is yet to be upgraded can show and wait
for what newer workers run.

What the Lua reads of a head is not for upcasters to rename: version, status, claims, worker, lane, entry.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from core.errors import FromTheFuture

SCHEMA: Final = 3
# The oldest schema whose readers understand what this one writes: it only adds fields, which they pass
# over, and nothing that they know means something else. A new event, or a new word in a field, is not
# understood by anybody older, whatever this says.
READABLE_FROM: Final[int] = 1

Fields = dict[str, Any]
Upcaster = Callable[[str, Fields], Fields]

# From schema N to N + 1: given an event's type (or `head`) and its fields, the fields as N + 1 has them.
# Where there is none, N + 1 only added fields, and what N wrote is read as it is.
#
# Schema 2 added the API key that a job came with, schema 3 that its content was forgotten.
_UPCASTERS: Mapping[int, Upcaster] = {}


def stamp() -> dict[str, int]:
    """What a head says of the schema that wrote it."""
    stamped = {"schema": SCHEMA}
    return stamped if READABLE_FROM == SCHEMA else stamped | {"readable_from": READABLE_FROM}


def upcast(what: str, fields: Fields, schema: int, readable_from: int | None = None) -> Fields:
    """The fields of an event (or head) stored under `schema`, as today's schema has them.

    Raises FromTheFuture if `schema` is newer than this release's, unless this one can read it.
    """
    if schema > SCHEMA:
        if (readable_from or schema) > SCHEMA:
            raise newer_than_us(what, schema)
        return fields
    for step in range(schema, SCHEMA):
        if step in _UPCASTERS:
            fields = _UPCASTERS[step](what, fields)
    return fields


def is_as_today(schema: int) -> bool:
    """Say whether what was stored under `schema` has no step to go."""
    return schema <= SCHEMA and not any(step in _UPCASTERS for step in range(schema, SCHEMA))


def newer_than_us(what: str, schema: int) -> FromTheFuture:
    """Why `what`, stored under a newer schema than this release's, is left alone."""
    return FromTheFuture(
        f"{what} was written under schema {schema}; this release knows up to {SCHEMA}: upgrade it"
    )
