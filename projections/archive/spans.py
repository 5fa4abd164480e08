"""Which incarnation of a store archived which part of its log. Pure.

A store that comes back from a backup goes on under a new incarnation, and archives to a folder of that. What was
archived up to the backup is its own all the same, and lies in the folder of the earlier one, together with what
was archived after the backup, which never happened to this store.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

ARCHIVED_BEFORE: Final = "archived_before"  # A field of META.

# Each earlier incarnation, and how far it archived each shard: the oldest first.
Lineage = list[tuple[str, list[int]]]


class Span(Struct, frozen=True):
    """A part of a log, up to a number, in the archive of one incarnation."""

    incarnation: str
    until: int


def lineage(field: bytes | None) -> Lineage:
    """What a store knows of its earlier incarnations."""
    return [] if field is None else msgspec.json.decode(field, type=Lineage)


def with_another(field: bytes | None, incarnation: str, archived: Sequence[int]) -> Lineage:
    """What it knows once it has left another one behind, which had archived each shard so far."""
    return [*lineage(field), (incarnation, list(archived))]


def spans(field: bytes | None, incarnation: str, shard: int, archived: int) -> tuple[Span, ...]:
    """What lies where of a shard's log, the oldest first, for a store that has archived so far."""
    earlier = [Span(name, until[shard]) for name, until in lineage(field)]
    return (*earlier, Span(incarnation, archived))
