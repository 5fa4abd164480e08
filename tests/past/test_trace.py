"""The trace of an incident, checked against the format and against what the log says."""

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.past.incident import BURST, SLOTS, WORKERS, Incident
from tests.past.looks import look, span, state, timeline_of

TraceEvents = list[dict[str, Any]]


@pytest.fixture(scope="module")
def traced(played: Incident, tmp_path_factory: pytest.TempPathFactory) -> TraceEvents:
    path: Path = tmp_path_factory.mktemp("trace") / "trace.json"
    look(played, "trace", *span(played), "-o", str(path))
    events: TraceEvents = json.loads(path.read_text("utf-8"))
    return events


def attempts(traced: TraceEvents) -> TraceEvents:
    return [event for event in traced if event.get("cat") == "attempt"]


def test_every_event_has_what_the_format_asks_for(traced: TraceEvents) -> None:
    for event in traced:
        assert {"ph", "name", "pid", "tid"} <= event.keys()
        assert event["ph"] in "XsfiCM"
        if event["ph"] != "M":
            assert isinstance(event["ts"], int)
        if event["ph"] == "X":
            assert event["dur"] > 0


def test_there_is_a_slice_for_each_attempt(played: Incident, traced: TraceEvents) -> None:
    by_job = defaultdict(list)
    for event in attempts(traced):
        by_job[event["args"]["job"]].append(event)
    assert set(by_job) == {*played.burst, played.poisoned}
    for job in played.burst:
        moments = timeline_of(played, job)["moments"]
        claims = [one["at_ms"] for one in moments if one["type"] == "claimed"]
        assert [event["ts"] // 1_000 for event in by_job[job]] == claims
        assert by_job[job][-1]["args"]["outcome"] == "completed"


def test_the_slices_of_a_slot_do_not_overlap(traced: TraceEvents) -> None:
    by_slot = defaultdict(list)
    for event in attempts(traced):
        by_slot[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for spans in by_slot.values():
        spans.sort()
        assert all(one[1] <= other[0] for one, other in pairwise(spans))
    assert max(slot for _, slot in by_slot) == SLOTS


def test_every_worker_has_a_process_of_its_name(played: Incident, traced: TraceEvents) -> None:
    named = {event["args"]["name"] for event in traced if event["name"] == "process_name"}
    assert {f"worker {played.workers[name]}" for name in (*WORKERS, "dan", "eve")} <= named


def test_arrows_lead_from_each_submission_to_its_first_claim(traced: TraceEvents) -> None:
    begins = {event["id"] for event in traced if event["ph"] == "s"}
    ends = {event["id"] for event in traced if event["ph"] == "f"}
    assert len(begins) == BURST + 2
    assert len(ends) == BURST + 1, "the one that was cancelled was never claimed"
    assert ends < begins


def test_counters_go_up_with_the_burst_and_end_at_nothing(
    played: Incident, traced: TraceEvents
) -> None:
    waiting = [event["args"]["jobs"] for event in traced if event["name"] == "waiting in default"]
    assert state(played, "burst")["waiting"] <= max(waiting) <= BURST
    assert waiting[-1] == 0
    slots = [event["args"] for event in traced if event["name"] == "slots"]
    assert max(one["running"] for one in slots) >= len(WORKERS) * SLOTS
    assert slots[-1]["running"] == 0
    assert slots[0]["capacity"] == len(WORKERS) * SLOTS


def test_a_span_that_ends_before_it_begins_is_refused(played: Incident) -> None:
    said = look(played, "trace", "--from", "1m ago", "--to", "2m ago", status=2)
    assert "has to come before" in said
