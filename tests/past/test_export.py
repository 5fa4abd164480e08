"""The log as a table: every entry a row, the same in JSON Lines and in Parquet, nobody's words unless asked."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec import Struct
from pyarrow import parquet

from cli.report import files
from core.events import AnyEvent
from projections.past.table import COLUMNS, CONTENTS
from tests.past.incident import BURST, CHAT, SLOTS, Incident
from tests.past.looks import look, span, timeline_of

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def exported(played: Incident, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return rows_in_lines(played, tmp_path_factory.mktemp("export") / "log.jsonl")


def rows_in_lines(played: Incident, path: Path, *arguments: str) -> Rows:
    look(played, "export", "-o", str(path), *arguments)
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def rows_in_parquet(path: Path) -> Rows:
    """Without what a row has not, and with times and JSON as JSON Lines has them."""
    return [
        {name: _as_json(name, value) for name, value in row.items() if value is not None}
        for row in parquet.read_table(path).to_pylist()
    ]


def _as_json(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        in_utc = value.astimezone(UTC).isoformat(timespec="milliseconds")
        return in_utc.replace("+00:00", "Z")
    return json.loads(value) if COLUMNS.get(name) == "JSON" else value


def test_every_entry_is_a_row(exported: Rows) -> None:
    assert [row["sequence"] for row in exported] == list(range(1, len(exported) + 1))
    assert {row["type"] for row in exported} >= {"submitted", "claimed", "queue_paused"}


def test_a_claim_has_its_wait_and_an_end_its_time_in_the_slot(
    played: Incident, exported: Rows
) -> None:
    claims = [row for row in exported if row["type"] == "claimed"]
    assert len(claims) == BURST + SLOTS + 2
    job = played.burst[-1]
    spent = timeline_of(played, job)["spent_ms"]
    of_job = [row for row in exported if row.get("job_id") == job]
    assert sum(row.get("waited_ms", 0) for row in of_job) == spent["queued"]
    assert sum(row.get("slot_ms", 0) for row in of_job) == spent["running"]


def test_what_is_asked_most_stands_beside_every_transition_of_a_job(
    played: Incident, exported: Rows
) -> None:
    of_jobs = [row for row in exported if "job_id" in row]
    for row in of_jobs:
        assert {"queue", "model", "tenant", "priority", "status"} <= row.keys()
    [last] = [row for row in of_jobs if row["type"] == "failed"]
    assert (last["job_id"], last["queue"]) == (played.poisoned, "special")
    assert last["error_kind"] == "poisoned"
    assert last["lost_workers"] == [played.workers["dan"], played.workers["eve"]]


def test_parquet_has_the_same_rows(played: Incident, exported: Rows, tmp_path: Path) -> None:
    look(played, "export", "-o", str(tmp_path / "log.parquet"))
    assert rows_in_parquet(tmp_path / "log.parquet") == exported
    names = parquet.read_schema(tmp_path / "log.parquet").names
    assert names == list(COLUMNS), "the same whatever the log has"


def test_what_people_wrote_is_left_out_unless_it_is_asked_for(
    played: Incident, exported: Rows, tmp_path: Path
) -> None:
    assert not any(CONTENTS.keys() & row.keys() for row in exported)
    for name in ("log.jsonl", "log.parquet"):
        path = tmp_path / name
        look(played, "export", "-o", str(path), "--with-contents")
        rows = rows_in_parquet(path) if path.suffix == ".parquet" else _lines(path)
        requests = [json.loads(row["request"]) for row in rows if row["type"] == "submitted"]
        assert requests == [CHAT] * (BURST + 2)
        assert all("result" in row for row in rows if row["type"] == "completed")


def _lines(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_stretch_is_of_that_time_and_knows_what_was_before(
    played: Incident, exported: Rows, tmp_path: Path
) -> None:
    since = played.at_ms["paused"]
    arguments = ("--from", f"{since / 1_000:.3f}", "--to", span(played)[-1])
    rows = rows_in_lines(played, tmp_path / "log.jsonl", *arguments)
    assert rows == [
        row
        for row in exported
        if since <= int(row["position"].split("-")[0]) <= played.at_ms["over"]
    ]


def test_row_groups_are_written_as_they_are_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_GROUP_ROWS", 10)
    path = tmp_path / "log.parquet"
    with files.Parquet(path, with_contents=False) as writer:
        for number in range(5):
            writer.write([{"sequence": number, "at": 0}] * 6)
    assert parquet.ParquetFile(path).num_row_groups == 3
    assert writer.rows == 30


def test_every_field_of_every_event_has_a_column() -> None:
    columns = COLUMNS.keys() | CONTENTS.keys()
    for kind in get_args(AnyEvent):
        for field in msgspec.structs.fields(kind):
            inner = [one for one in (field.type, *get_args(field.type)) if _is_struct(one)]
            parts = [f"{field.name}_{name}" for one in inner for name in one.__struct_fields__]
            for name in parts or [field.name]:
                assert name in columns or field.name in columns, f"{kind.__name__}.{name}"


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def test_a_file_has_its_name_only_once_it_is_whole(played: Incident, tmp_path: Path) -> None:
    said = look(played, "export", "-o", str(tmp_path / "log.csv"), status=2)
    assert "takes a name that ends with .jsonl or .parquet" in said
    nowhere = tmp_path / "nowhere" / "log.jsonl"
    assert f"{nowhere} cannot be written: No such file" in look(
        played, "export", "-o", str(nowhere), status=1
    )
    ahead = look(
        played,
        "export",
        "-o",
        str(tmp_path / "x.jsonl"),
        "--from",
        "2999-01-01",
        "--to",
        "2999-01-02",
        status=1,
    )
    assert "lies ahead" in ahead
    assert not list(tmp_path.iterdir())
