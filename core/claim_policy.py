"""In which order waiting jobs are claimed. Pure, as a simulation of other capacity uses it too.

Most urgent lane first; among queues and models of one priority, in turn. Every `OLDEST_EVERY`th claim
takes one job of whichever lane has waited longest before the rest, so that low priority moves too.
"""

from collections.abc import Collection, Iterable
from typing import Final

from core.keys import LaneName
from core.states import Lane

OLDEST_EVERY: Final = 8

_URGENCY: Final = {lane: rank for rank, lane in enumerate(Lane)}


def lanes_to_read(
    known: Iterable[LaneName], queues: Collection[str], models: Collection[str], turn: int
) -> list[LaneName]:
    """The lanes that a worker reads on its claim number `turn`, in order. No `queues`: all of them."""
    served = sorted(
        (name for name in known if name.model in models and (not queues or name.queue in queues)),
        key=lambda name: (name.queue, name.model),
    )
    pairs = list(dict.fromkeys((name.queue, name.model) for name in served))
    if not pairs:
        return []
    rank = {pair: (at - turn) % len(pairs) for at, pair in enumerate(pairs)}
    return sorted(served, key=lambda name: (_URGENCY[name.lane], rank[name.queue, name.model]))


def takes_oldest_first(turn: int) -> bool:
    """Say whether claim number `turn` begins with the job that has waited longest."""
    return turn % OLDEST_EVERY == 0
