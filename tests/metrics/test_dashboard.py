"""Grafana's dashboard: it is well formed, and has the guide's five panels and more.

Its queries are run against a real Prometheus in `test_alerts.py`.
"""

from tests.metrics.dashboard import panels, queries

WIDTH = 24
OF_THE_GUIDE = {
    "Active jobs and capacity",
    "Queue length",
    "HTTP 429 rate",
    "Job duration",
    "Redis memory",
}


def test_the_guide_s_panels_are_there() -> None:
    assert set(queries()) > OF_THE_GUIDE
    quantiles = [asked.split(",")[0] for asked in queries()["Job duration"]]
    assert quantiles == [f"histogram_quantile({share}" for share in (0.5, 0.95, 0.99)]


def test_panels_have_an_id_and_a_place_of_their_own() -> None:
    assert len({one["id"] for one in panels()}) == len(panels())
    taken = set[tuple[int, int]]()
    for one in panels():
        place = one["gridPos"]
        columns, rows = (
            range(place["x"], place["x"] + place["w"]),
            range(place["y"], place["y"] + place["h"]),
        )
        cells = {(x, y) for x in columns for y in rows}
        assert place["x"] + place["w"] <= WIDTH
        assert not taken & cells
        taken |= cells
