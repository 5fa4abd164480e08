"""The lanes of a simulated store, claimed from as `core/lua/claim.lua` does, by the same policy. Pure."""

from collections import deque
from collections.abc import Collection
from typing import Generic, NamedTuple, TypeVar

from core.claim_policy import lanes_to_read, takes_oldest_first
from core.keys import LaneName

Ticket = TypeVar("Ticket")


class _Place(NamedTuple, Generic[Ticket]):
    number: int
    at_ms: int
    ticket: Ticket


class Turns:
    """How often a worker has claimed: each of its shards counts for itself, as in `consumers.claims`."""

    def __init__(self, shards: int) -> None:
        self._all = 0
        self._of_shard = [0] * shards

    def next_shards(self) -> list[int]:
        """The shards in the order in which the next claim reads them."""
        self._all += 1
        shards = len(self._of_shard)
        return [(at + self._all) % shards for at in range(shards)]

    def next_of(self, shard: int) -> int:
        """The number of a claim on one shard."""
        self._of_shard[shard] += 1
        return self._of_shard[shard]


class Line(Generic[Ticket]):
    """Who waits, in lanes by shard, urgency, queue and model."""

    def __init__(self, shards: int) -> None:
        self._lanes: list[dict[LaneName, deque[_Place[Ticket]]]] = [{} for _ in range(shards)]
        self._gone: set[int] = set()
        self._places = 0
        self.waiting = 0

    def enter(self, shard: int, lane: LaneName, at_ms: int, ticket: Ticket) -> int:
        """Stand at the end of a lane; the number of the place, by which it can be left."""
        self._places += 1
        place = _Place(self._places, at_ms, ticket)
        self._lanes[shard].setdefault(lane, deque()).append(place)
        self.waiting += 1
        return place.number

    def leave(self, number: int) -> None:
        """Go without a claim. The place must not have been claimed."""
        self._gone.add(number)
        self.waiting -= 1

    def claim(
        self,
        queues: Collection[str],
        models: Collection[str],
        want: int,
        turns: Turns,
        paused: Collection[str],
    ) -> list[Ticket]:
        """Up to `want` of those who wait, as a worker's next claim takes them."""
        taken: list[Ticket] = []
        for shard in turns.next_shards():
            if len(taken) < want:
                lanes = self._lanes[shard]
                turn = turns.next_of(shard)
                names = lanes_to_read(lanes, queues, models, turn)
                open_lanes = [lanes[name] for name in names if name.queue not in paused]
                if takes_oldest_first(turn) and (waiting := list(filter(self._first, open_lanes))):
                    oldest = min(waiting, key=lambda lane: lane[0].at_ms)
                    taken.append(oldest.popleft().ticket)
                for lane in open_lanes:
                    while len(taken) < want and self._first(lane):
                        taken.append(lane.popleft().ticket)
        self.waiting -= len(taken)
        return taken

    def _first(self, lane: deque[_Place[Ticket]]) -> _Place[Ticket] | None:
        """Who stands first; those who have left are taken out."""
        while lane and lane[0].number in self._gone:
            self._gone.discard(lane.popleft().number)
        return lane[0] if lane else None
