"""The report of an incident, held against what its makers did."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.browser import in_browser, needs_browser
from tests.past.incident import BURST, LEASE_SECONDS, SLOTS, WORKERS, Incident
from tests.past.looks import look, span, timeline_of

POLICY = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"""
MEASURE = """<script>
  const sizes = [...document.querySelectorAll("figure svg")].map(plot => {
    const { width, height } = plot.getBoundingClientRect();
    return [width, height];
  });
  const page = document.documentElement.scrollWidth;
  document.body.dataset.measured = JSON.stringify([sizes, page, window.innerWidth]);
</script>"""


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


@needs_browser
async def test_a_browser_shows_every_plot_and_nothing_runs_over_the_edge(
    played: Incident, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="the plots need matplotlib: respool[report]")
    path = tmp_path / "incident.html"
    look(played, "incident", *span(played), "-o", str(path))
    shown, said = await in_browser(path.as_uri(), tmp_path / "as it is")
    assert played.poisoned in shown
    assert "CONSOLE" not in said, said

    measured = path.with_name("measured.html")  # The page itself lets no script run.
    html = path.read_text("utf-8")
    assert html.count(POLICY) == 1
    measured.write_text(html.replace(POLICY, "") + MEASURE, "utf-8")
    shown, _ = await in_browser(measured.as_uri(), tmp_path / "measured")
    [found] = re.findall(r'data-measured="([^"]+)"', shown)
    plots, page, window = json.loads(unescape(found))
    assert len(plots) == 5
    assert all(width > 300 and height > 80 for width, height in plots), plots
    assert page <= window
