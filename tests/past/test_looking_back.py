"""`respool replay timeline` and `state`, held against what an incident's makers did and when."""

import json
from typing import Any
from unittest.mock import ANY

import pytest

from tests.past.incident import BURST, LEASE_SECONDS, SLOTS, WORKERS, Incident
from tests.past.looks import look, state, timeline_of


def named(played: Incident, found: dict[str, Any]) -> dict[str, Any]:
    """The workers of a state by our names for them."""
    by_name = {one["name"]: one for one in found["workers"]}
    return {name: by_name[on] for name, on in played.workers.items() if on in by_name}


def test_before_the_burst_three_workers_stand_idle(played: Incident) -> None:
    found = state(played, "started")
    assert set(named(played, found)) == set(WORKERS)
    assert found["capacity"] == len(WORKERS) * SLOTS
    assert (found["waiting"], found["running"]) == (0, 0)


def test_right_after_the_burst_every_job_waits_or_runs(played: Incident) -> None:
    found = state(played, "burst")
    done = sum(
        1
        for job in played.burst
        if timeline_of(played, job)["moments"][-1]["at_ms"] <= played.at_ms["burst"]
    )
    assert found["waiting"] + found["running"] == BURST - done
    assert found["scheduled"] == 1


def test_a_killed_worker_has_its_jobs_until_it_is_found_to_be_lost(played: Incident) -> None:
    ada = named(played, state(played, "killed"))["ada"]
    assert ada["status"] == "started"
    assert len(ada["running"]) == SLOTS
    ada = named(played, state(played, "lost"))["ada"]
    assert ada["status"] == "lost"
    assert not named(played, state(played, "idle"))["ada"]["running"]


def test_a_lost_worker_takes_its_slots_from_the_capacity(played: Incident) -> None:
    assert state(played, "lost")["capacity"] == (len(WORKERS) - 1) * SLOTS


def test_a_paused_queue_is_shown_as_paused_with_nothing_running(played: Incident) -> None:
    found = state(played, "idle")
    [queue] = [one for one in found["queues"] if one["name"] == "default"]
    assert queue["paused"]
    assert (queue["running"], found["running"]) == (0, 0)
    assert queue["waiting"] > 0


def test_in_the_end_nothing_is_left(played: Incident) -> None:
    found = state(played, "over")
    assert (found["waiting"], found["running"], found["scheduled"]) == (0, 0, 0)


def test_a_job_of_the_lost_worker_names_the_loss_and_the_second_claim(played: Incident) -> None:
    ada = played.workers["ada"]
    lost = [job for job in played.burst if _types(timeline_of(played, job)).count("attempt_lost")]
    assert len(lost) == SLOTS
    told = timeline_of(played, lost[0])
    assert _types(told) == ["submitted", "claimed", "attempt_lost", "claimed", "completed"]
    loss = told["moments"][2]
    assert loss["says"] == f"taken back from {ada}: lease ran out"
    assert loss["before"]["says"].endswith(f"on {ada}")
    assert loss["before"]["ms"] >= LEASE_SECONDS * 1_000


def test_a_job_that_waited_through_it_all_is_told_what_for(played: Incident) -> None:
    told = timeline_of(played, played.burst[-1])
    wait = told["moments"][1]["before"]["wait"]
    assert wait["ahead"] > 0
    assert (wait["workers"], wait["slots"]) == (len(WORKERS), len(WORKERS) * SLOTS)
    assert not wait["paused"]
    what = [one["what"] for one in wait["happenings"]]
    assert what == [
        f"worker {played.workers['ada']} was lost",
        "the queue was paused by api",
        "it was resumed",
    ]
    paused, resumed = wait["happenings"][1]["at_ms"], wait["happenings"][2]["at_ms"]
    assert played.at_ms["lost"] <= paused <= played.at_ms["paused"]
    assert played.at_ms["idle"] <= resumed <= played.at_ms["resumed"]


def test_every_moment_of_a_jobs_life_is_spent_on_something(played: Incident) -> None:
    for job in (*played.burst, played.poisoned, played.cancelled):
        told = timeline_of(played, job)
        first, last = told["moments"][0]["at_ms"], told["moments"][-1]["at_ms"]
        assert sum(told["spent_ms"].values()) == last - first


def test_a_poisoned_job_names_both_workers_that_it_cost(played: Incident) -> None:
    told = timeline_of(played, played.poisoned)
    assert told["status"] == "failed"
    says = told["moments"][-1]["says"]
    assert played.workers["dan"] in says
    assert played.workers["eve"] in says


def test_a_cancelled_job_says_who_did_it(played: Incident) -> None:
    told = timeline_of(played, played.cancelled)
    assert told["moments"][-1]["says"] == "cancelled by api"


def test_the_command_prints_the_same_as_json(played: Incident) -> None:
    job = played.burst[-1]
    told = json.loads(look(played, "timeline", job, "--json"))
    assert told == {"timeline": timeline_of(played, job) | {"until_ms": ANY}, "notes": []}
    at = f"{played.at_ms['lost'] / 1_000:.3f}"
    shown = json.loads(look(played, "state", "--at", at, "--json"))
    assert shown == {"state": state(played, "lost"), "notes": []}


def test_a_timeline_reads_as_text(played: Incident) -> None:
    shown = look(played, "timeline", played.burst[-1])
    assert "submitted to queue default for echo, priority normal" in shown
    assert f"worker {played.workers['ada']} was lost at" in shown
    assert "in all: queued" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("timeline", "nope"), "there is no job nope"),
        (("timeline", "06bq3w8m5t1v0zyh200"), "there is no job 06bq3w8m5t1v0zyh200"),
        (("state", "--at", "2999-01-01"), "2999-01-01T00:00:00.000Z lies ahead"),
    ],
)
def test_what_never_was_is_said_so(played: Incident, arguments: tuple[str, ...], said: str) -> None:
    assert said in look(played, *arguments, status=1)


def test_a_moment_that_is_none_is_named_with_what_would_be(played: Incident) -> None:
    shown = look(played, "state", "--at", "noon", status=2)
    assert "'noon' is no moment; takes 2026-11-25T14:03:07Z" in shown


def test_a_replay_plays_each_step_once(played: Incident) -> None:
    at = f"{played.at_ms['started'] / 1_000:.3f}"
    shown = look(played, "state", "--at", at, "--watch", "--speed", "100000", "--json")
    states = [json.loads(line) for line in shown.splitlines()]
    assert states[0] == state(played, "started")


def _types(told: dict[str, Any]) -> list[str]:
    return [moment["type"] for moment in told["moments"]]
