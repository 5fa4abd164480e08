"""Old stored shapes, read as today's.

Everything stored says which schema wrote it. A reader passes what an older release wrote through the
chain of upcasters below, one step a schema, before it is decoded; so the rest of the program knows
one shape only. What a newer release wrote is refused: this one would drop what it does not know.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from core.errors import FromTheFuture

SCHEMA: Final = 1

Fields = dict[str, Any]
Upcaster = Callable[[str, Fields], Fields]

# From schema N to N + 1: given an event's type (or `head`) and its fields, the fields as N + 1 has them.
_UPCASTERS: Mapping[int, Upcaster] = {}


def upcast(what: str, fields: Fields, schema: int) -> Fields:
    """The fields of an event (or head) stored under `schema`, as today's schema has them.

    Raises FromTheFuture if `schema` is newer than this release's.
    """
    if schema > SCHEMA:
        raise FromTheFuture(
            f"{what} was written under schema {schema}; this release knows up to {SCHEMA}: upgrade it"
        )
    for step in range(schema, SCHEMA):
        fields = _UPCASTERS[step](what, fields)
    return fields
