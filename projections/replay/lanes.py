"""Which lanes there are and are listed, and what is pending in them though it is gone."""

from collections.abc import Collection, Sequence
from typing import Final

from core import functions
from core.errors import StoreError, StoreUnavailable
from core.keys import ShardKeys
from core.store import EventStore
from projections.replay.findings import Finding, Kind
from projections.replay.reading import pending_entries

GROUP: Final = "workers"
_NAMES_PAGE: Final = 300


async def check_lanes(store: EventStore, keys: ShardKeys, names: Sequence[str]) -> list[Finding]:
    """Lanes that are there and not listed, or the other way round. Raises StoreUnavailable."""
    found = []
    for first in range(0, len(names), _NAMES_PAGE):
        page = names[first : first + _NAMES_PAGE]
        ask = {"prefix": keys.prefix, "names": list(page)}
        replies = await functions.call(store.client, "seen_lanes", [keys.lanes], ask)
        for name, (is_there, is_listed, has_group) in zip(page, replies, strict=True):
            if is_there != is_listed:
                found.append(_lane(keys, name, "" if is_listed else None, is_there))
            if is_there and not has_group:
                found.append(_group(keys, name))
    return found


def _lane(keys: ShardKeys, name: str, listed: str | None, is_there: int) -> Finding:
    why = "workers do not know the lane" if is_there else "there is no such lane"
    return Finding(
        kind=Kind.LANE,
        shard=keys.shard,
        subject=name,
        name="in the list of lanes",
        stored=None if listed is None else "listed",
        expected="listed" if is_there else None,
        why=why,
    )


def _group(keys: ShardKeys, name: str) -> Finding:
    return Finding(
        kind=Kind.LANE,
        shard=keys.shard,
        subject=name,
        name="consumer group",
        stored=None,
        expected=GROUP,
    )


async def pending_in(store: EventStore, keys: ShardKeys, lane: str) -> set[str]:
    """The entries that are pending in a lane. Raises StoreUnavailable."""
    pending: set[str] = set()
    try:
        async for page in pending_entries(store, keys, lane, GROUP):
            pending.update(page)
    except StoreUnavailable:
        raise
    except StoreError:
        pass  # No such lane any more, or it has no group, which is found otherwise.
    return pending


async def without_entry(
    store: EventStore, keys: ShardKeys, lane: str, pending: Collection[str]
) -> list[str]:
    """Which of these are pending in a lane that does not have them. Raises StoreUnavailable."""
    if not pending:
        return []
    key = f"{keys.prefix}ready:{lane}"
    left = await functions.call(store.client, "seen_pending", [key], {"entries": list(pending)})
    return [entry.decode() for entry in left]
