"""`respool replay whatif` on an incident: the simulation of what was, and of what might have been."""

import json
from typing import Any

import pytest

from tests.past.incident import BURST, LATENCY_MS, SLOTS, Incident
from tests.past.looks import look, span

AFTERWARDS_MS = 2_000  # Nothing happens then any more.


def compared(played: Incident, *arguments: str, more_ms: int = 0) -> dict[str, Any]:
    shown = json.loads(look(played, "whatif", *span(played, more_ms), *arguments, "--json"))
    assert shown["notes"] == []
    found: dict[str, Any] = shown["whatif"]
    return found


def test_the_capacity_as_it_was_gives_the_waits_as_they_were(played: Incident) -> None:
    found = compared(played, more_ms=AFTERWARDS_MS)
    then, again = found["recorded"]["waits"], found["simulated"]["waits"]
    assert then["claims"] == BURST + SLOTS + 2
    for share in ("p50", "p95"):
        assert again["ms"][share] == pytest.approx(then["ms"][share], rel=0.1)
    assert again["claims"] == pytest.approx(then["claims"], abs=SLOTS)
    assert found["recorded"]["in_line_at_end"] == 0
    not_claimed = max(
        0, then["claims"] - again["claims"]
    )  # By a worker that died too early for it.
    assert found["simulated"]["in_line_at_end"] <= not_claimed
    assert found["what_if"] is None


def test_more_workers_would_have_helped_and_fewer_would_not(played: Incident) -> None:
    many = compared(played, "--workers", "10", "--concurrency", "10")
    few = compared(played, "--workers", "1", "--concurrency", "1")
    then = many["recorded"]["waits"]["ms"]["p95"]
    assert many["what_if"]["waits"]["ms"]["p95"] < then / 4
    one_slot_s = (few["to_ms"] - few["from_ms"]) / LATENCY_MS + 1
    assert few["what_if"]["waits"]["claims"] <= one_slot_s
    assert few["what_if"]["in_line_at_end"] >= BURST - one_slot_s
    # But for what a slot took to react, which the incident's workers took as well.
    assert few["what_if"]["busy"] > 0.85 > 2 * many["what_if"]["busy"]


def test_a_job_that_no_worker_serves_is_not_claimed(played: Incident) -> None:
    said = look(
        played,
        *("whatif", *span(played), "--workers", "1", "--concurrency", "1", "--model", "no-such"),
        status=1,
    )
    assert "no job asked for model 'no-such' in that time; there were echo" in said


def test_it_is_shown_side_by_side(played: Incident) -> None:
    shown = look(played, "whatif", *span(played), "--workers", "6", "--concurrency", "4")
    heads, median, *_ = shown.splitlines()[1:]
    assert heads.split("  ")[0] == "wait"
    assert "then, simulated" in heads
    assert heads.endswith("6 workers x 4 slots")
    assert median.startswith("median")


@pytest.mark.parametrize("arguments", [("--workers", "3"), ("--model", "echo")])
def test_half_a_crew_is_refused(played: Incident, arguments: tuple[str, ...]) -> None:
    said = look(played, "whatif", *span(played), *arguments, status=2)
    assert "takes --workers and --concurrency together" in said
