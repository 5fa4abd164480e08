"""The simulation: given a workload and shifts, how long each claim was waited for."""

from collections.abc import Sequence
from typing import Any

from core.events import Priority
from core.states import Lane
from projections.past.simulation import Simulation
from projections.past.whatif import figures
from projections.past.workload import Arrival, Pause, Played, Shift, Visit, Workload

END_MS = 10_000


def job(at_ms: int, *visits: Visit, **fields: Any) -> Arrival:
    known: dict[str, Any] = {"shard": 0, "queue": "default", "model": "m"}
    known |= {"priority": Priority.NORMAL, "was_running": False} | fields
    return Arrival(at_ms=at_ms, visits=visits or (visit(),), **known)


def visit(ran_ms: int | None = 100, lane: Lane = Lane.NORMAL, **fields: Any) -> Visit:
    known: dict[str, Any] = {"delay_ms": 0, "lane": lane, "ran_ms": ran_ms}
    return Visit(**known | fields)


def shift(from_ms: int = 0, capacity: int = 1, **fields: Any) -> Shift:
    known: dict[str, Any] = {"name": "w", "queues": (), "models": ("m",)}
    known |= {"claims_until_ms": END_MS, "until_ms": END_MS} | fields
    return Shift(from_ms=from_ms, capacity=capacity, **known)


def play(
    arrivals: Sequence[Arrival], *shifts: Shift, pauses: Sequence[Pause] = (), to_ms: int = END_MS
) -> Played:
    nothing = Played(waits=[], in_line=0, busy_ms=0, capacity_ms=0)
    workload = Workload(
        from_ms=0,
        to_ms=to_ms,
        arrivals=list(arrivals),
        shifts=list(shifts),
        pauses=list(pauses),
        recorded=nothing,
    )
    return Simulation(workload, shifts).run()


def waits(played: Played) -> list[int]:
    return [one.ms for one in played.waits]


def test_one_slot_takes_one_job_after_the_other() -> None:
    played = play([job(0), job(0), job(50)], shift())
    assert waits(played) == [0, 100, 150]
    assert (played.busy_ms, played.in_line) == (300, 0)


def test_a_second_slot_or_a_second_worker_halves_the_line() -> None:
    jobs = [job(0) for _ in range(4)]
    assert waits(play(jobs, shift(capacity=2))) == [0, 0, 100, 100]
    assert waits(play(jobs, shift(), shift())) == [0, 0, 100, 100]


def test_who_waited_before_the_stretch_began_has_waited_for_longer() -> None:
    assert waits(play([job(-500)], shift())) == [500]


def test_what_ran_when_the_stretch_began_takes_its_slot_and_counts_as_no_wait() -> None:
    before = job(0, visit(70, Lane.FRONT), was_running=True)
    assert waits(play([job(0), before], shift())) == [70]


def test_the_time_that_a_claim_took_is_waited_for_and_keeps_the_slot() -> None:
    played = play([job(0, visit(reaction_ms=5)), job(0)], shift())
    assert waits(played) == [5, 105]


def test_the_urgent_come_first_and_the_oldest_every_eighth_time() -> None:
    low = job(0, visit(lane=Lane.LOW), priority=Priority.LOW)
    high = [job(1, visit(lane=Lane.HIGH), priority=Priority.HIGH) for _ in range(12)]
    played = play([low, *high], shift(from_ms=2))
    assert [one.priority for one in played.waits].index(Priority.LOW) == 7


def test_a_paused_queue_waits_while_others_go_on() -> None:
    jobs = [job(10), job(10, queue="other")]
    pauses = [Pause(0, "default", is_paused=True), Pause(400, "default", is_paused=False)]
    by_queue = {one.queue: one.ms for one in play(jobs, shift(capacity=2), pauses=pauses).waits}
    assert by_queue == {"default": 390, "other": 0}


def test_workers_take_what_they_serve_and_nothing_else() -> None:
    jobs = [job(0), job(0, model="big"), job(0, queue="special")]
    played = play(jobs, shift(capacity=9, queues=("default",)))
    assert (len(played.waits), played.in_line) == (1, 2)


def test_who_is_cancelled_in_line_leaves_it_and_who_has_begun_by_then_does_not() -> None:
    jobs = [job(0, visit(300)), job(0, visit(None, leaves_ms=200)), job(0)]
    assert waits(play(jobs, shift())) == [0, 300]
    assert waits(play(jobs, shift(capacity=3))) == [0, 0, 0]


def test_who_never_ran_runs_as_long_as_others_of_its_model() -> None:
    assert waits(play([job(0, visit(None)), job(0, visit(40)), job(0)], shift())) == [0, 40, 80]


def test_a_retry_comes_as_late_after_the_attempt_before_as_it_did() -> None:
    twice = job(0, visit(100), visit(50, delay_ms=1_000))
    assert waits(play([twice, job(1_100, visit(500))], shift())) == [0, 0, 500]


def test_a_lost_worker_ends_nothing_after_its_last_sign_of_life() -> None:
    lost = shift(claims_until_ms=50, until_ms=2_000, is_lost=True)
    played = play([job(0), job(60)], lost, shift(from_ms=1_000, name="next"))
    assert waits(played) == [0, 940, 0], (
        "the second waits for `next`, the first comes back at 2,000"
    )
    assert played.in_line == 0


def test_a_job_ends_with_the_loss_that_it_ended_with() -> None:
    poisoned = job(0, visit(5_000, fatal_loss=2))
    first = shift(claims_until_ms=0, until_ms=1_000, is_lost=True)
    second = shift(from_ms=1_500, claims_until_ms=1_500, until_ms=3_000, is_lost=True)
    third = shift(from_ms=4_000)
    played = play([poisoned], first, second, third)
    assert waits(played) == [0, 500]
    assert played.in_line == 0


def test_a_draining_worker_finishes_what_it_has_until_it_stops() -> None:
    jobs = [job(0, visit(300)), job(0, visit(3_000)), job(10)]
    drains = shift(capacity=2, claims_until_ms=100, until_ms=500)
    played = play(jobs, drains, shift(from_ms=400, name="next"))
    assert waits(played) == [0, 0, 390, 0], "what was given back waits for no time at all"


def test_figures_are_by_the_nearest_rank_and_by_queue() -> None:
    jobs = [job(0), job(0), job(0, queue="other")]
    found = figures(play(jobs, shift(), to_ms=1_000))
    assert found.waits.ms is not None
    assert (found.waits.ms.p50, found.waits.ms.p95, found.waits.longest_ms) == (100, 200, 200)
    assert {name: one.claims for name, one in found.by_queue.items()} == {"default": 2, "other": 1}
    assert found.busy == 300 / END_MS
