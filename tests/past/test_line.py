"""A simulated line is claimed from in the same order as Redis's lanes are."""

from collections.abc import Iterable
from itertools import product
from random import Random

import pytest
from msgspec import Raw

from consumers.claims import Claims
from core.events import Priority, Submitted
from core.head import milliseconds_of
from core.ids import job_id
from core.keys import LaneName
from core.queues import Queues
from core.states import Lane
from projections.past.line import Line, Turns
from tests.conftest import OpenStore

QUEUES, MODELS = ("a", "b", "c"), ("m", "n")
JOBS = 120


@pytest.mark.parametrize("seed", range(3))
async def test_claims_come_in_the_same_order_as_from_redis(
    open_store: OpenStore, seed: int
) -> None:
    random = Random(seed)
    store = await open_store(shards=2)
    line: Line[str] = Line(shards=2)
    of_nobody = 0
    for number, (queue, model, priority) in enumerate(_kinds(random)):
        of_nobody += (queue, model) == ("b", "n")
        shard = random.randrange(2)
        name = job_id(0, number, shard)
        submitted = Submitted(
            queue=queue,
            model=model,
            priority=priority,
            tenant="t",
            request=Raw(b"{}"),
            timeout_ms=1_000,
            attempts_max=1,
        )
        recorded = await store.submit(name, submitted)
        lane = LaneName(Lane(priority.value), queue, model)
        line.enter(shard, lane, milliseconds_of(recorded.log_ids[0]), name)
    serves = {"x": (("a", "c"), ("m", "n")), "y": ((), ("m",))}
    claims = {
        worker: Claims(store, worker, queues, lambda models=models: models)  # type: ignore[misc]
        for worker, (queues, models) in serves.items()
    }
    turns = {worker: Turns(shards=2) for worker in serves}
    claimed = 0
    for paused in ({"c"}, set[str]()):
        await Queues(store).set_paused("c", paused="c" in paused, by="test")
        for _ in range(60):
            worker, want = random.choice(list(serves)), random.randint(1, 4)
            taken = [delivery.job_id for delivery in await claims[worker].take(want)]
            assert line.claim(*serves[worker], want, turns[worker], paused) == taken
            claimed += len(taken)
    assert (claimed, line.waiting) == (JOBS - of_nobody, of_nobody)


def _kinds(random: Random) -> Iterable[tuple[str, str, Priority]]:
    kinds = list(product(QUEUES, MODELS, Priority))
    return random.choices(kinds, k=JOBS)
