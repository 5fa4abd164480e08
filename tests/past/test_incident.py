"""The report of an incident, held against what its makers did."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.past.incident import BURST, LEASE_SECONDS, SLOTS, WORKERS, Incident
from tests.past.looks import look, span, timeline_of


@pytest.fixture(scope="module")
def report(played: Incident) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(look(played, "incident", *span(played), "--json"))["report"]
    return found


def test_it_counts_what_came_and_how_it_ended(report: dict[str, Any]) -> None:
    assert report["submitted"] == BURST + 2
    assert report["ended"] == {"completed": BURST, "failed": 1, "cancelled": 1}
    assert report["lost"] == SLOTS + 2, "of the first worker, and two of the poisoned job"


def test_its_slices_add_up(report: dict[str, Any]) -> None:
    slices = report["slices"]
    assert sum(one["ended"].get("completed", 0) for one in slices) == BURST
    assert sum(one["claimed"] for one in slices) == BURST + SLOTS + 2
    assert slices[0]["capacity"] == len(WORKERS) * SLOTS
    assert slices[-1]["waiting"] == 0
    assert slices[-1]["capacity"] == (len(WORKERS) - 1) * SLOTS
    assert max(one["running"] for one in slices) <= len(WORKERS) * SLOTS + 1, "one of them special"


def test_it_names_what_changed_and_when(played: Incident, report: dict[str, Any]) -> None:
    what = {one["what"]: one["at_ms"] for one in report["changes"]}
    lost = what[f"worker {played.workers['ada']} was lost ({SLOTS} slots)"]
    assert played.at_ms["killed"] < lost <= played.at_ms["lost"]
    paused = what["queue default was paused by api: a look"]
    assert played.at_ms["lost"] <= paused <= played.at_ms["paused"]
    assert "queue default was resumed by api" in what


def test_the_poisoned_job_is_hurt_most_then_come_those_that_lost_most_time(
    played: Incident, report: dict[str, Any]
) -> None:
    poisoned, *others = report["hurt"]
    assert (poisoned["job_id"], poisoned["status"]) == (played.poisoned, "failed")
    assert poisoned["attempts"] == 2
    assert poisoned["wasted_ms"] >= 2 * LEASE_SECONDS * 1_000
    lost = [one["waited_ms"] + one["wasted_ms"] for one in others]
    assert lost == sorted(lost, reverse=True)
    longest = timeline_of(played, others[0]["job_id"])["spent_ms"]["queued"]
    assert others[0]["waited_ms"] == longest


def test_it_says_in_words_what_stands_out(report: dict[str, Any]) -> None:
    said = "\n".join(report["findings"])
    assert f"{BURST + 2} jobs came; 1 cancelled, {BURST} completed, 1 failed" in said
    assert f"{SLOTS + 2} attempts ended with a worker that was lost" in said


def test_it_reads_as_markdown(played: Incident, tmp_path: Path) -> None:
    path = tmp_path / "incident.md"
    look(played, "incident", *span(played), "-o", str(path))
    text = path.read_text("utf-8")
    assert text.startswith("# Incident of 20")
    assert f"`{played.poisoned}`" in text
    assert text == look(played, "incident", *span(played))


def test_it_is_one_page_with_its_plots_in_it(played: Incident, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plots need matplotlib: respool[report]")
    path = tmp_path / "incident.html"
    look(played, "incident", *span(played), "-o", str(path))
    html = path.read_text("utf-8")
    assert html.count("<svg") == html.count("<figcaption>") == 5
    assert played.poisoned in html
    assert "src=" not in html, "it needs nothing from elsewhere"
