"""The setting that was measured: in an .env file, in the report, and as `auto`."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.calibrate.applied import Applied, applied
from cli.calibrate.question import CalibrationError, Question, question_of
from cli.calibrate.written import read_report, set_in_env_file, with_setting, write_report
from core.calibration import Calibration
from core.events import Gpu, Kind
from tests.calibrate.levels import levels
from tests.gpus.nvml import GIB

URL = "http://gpu:8000"
A100 = Gpu(0, "NVIDIA A100-SXM4-40GB", 40 * GIB)
FOUND = Calibration(
    at=datetime(2026, 7, 1, tzinfo=UTC),
    upstream=URL,
    model="llama3.2",
    recommended=6,
    knee=6,
    memory=None,
    devices=(),
    levels=tuple(levels({1: 50.0, 6: 300.0})),
    notes=(),
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "WORKER_CONCURRENCY=3\n"),
        ("A=1", "A=1\nWORKER_CONCURRENCY=3\n"),
        ("A=1\n", "A=1\nWORKER_CONCURRENCY=3\n"),
        ("WORKER_CONCURRENCY=auto # why\nA=1\n", "WORKER_CONCURRENCY=3\nA=1\n"),
        ("export WORKER_CONCURRENCY=1\r\nA=1\r\n", "export WORKER_CONCURRENCY=3\r\nA=1\r\n"),
        ("MY_WORKER_CONCURRENCY=1\n", "MY_WORKER_CONCURRENCY=1\nWORKER_CONCURRENCY=3\n"),
        ("# WORKER_CONCURRENCY=1\n", "# WORKER_CONCURRENCY=1\nWORKER_CONCURRENCY=3\n"),
    ],
)
def test_an_env_file_has_the_setting_where_it_stood_and_all_else_as_it_was(
    before: str, after: str
) -> None:
    assert with_setting(before, 3) == after
    assert with_setting(after, 3) == after


@pytest.mark.parametrize("mode", [None, 0o600, 0o640])
def test_an_env_file_keeps_its_rights_and_a_new_one_is_its_owner_s(
    tmp_path: Path, mode: int | None
) -> None:
    path = tmp_path / ".env"
    if mode is not None:
        path.write_text("API_KEY=secret\n", "utf-8")
        path.chmod(mode)
    set_in_env_file(path, 3)
    assert path.stat().st_mode & 0o777 == (mode or 0o600)
    assert [one.name for one in tmp_path.iterdir()] == [".env"]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("", "utf-8")
    with pytest.raises(CalibrationError, match=r"data/calibration\.json cannot be written"):
        write_report(tmp_path / "data", FOUND)
    with pytest.raises(CalibrationError, match=r"data/\.env cannot be written"):
        set_in_env_file(tmp_path / "data" / ".env", 3)


def test_auto_is_what_was_measured_of_this_server(tmp_path: Path) -> None:
    write_report(tmp_path, FOUND)
    said = "measured on 2026-07-01 with llama3.2"
    assert applied(tmp_path, URL, [A100]) == Applied(6, said, is_measured=True)


def test_auto_is_the_table_s_least_where_this_server_was_not_measured(tmp_path: Path) -> None:
    table = "for A100 40GB with models of 20B-30B the guide's table has 2 to 3"
    never = applied(tmp_path, URL, [A100])
    assert never == Applied(2, f"{tmp_path}/calibration.json is not there; {table}")
    write_report(tmp_path, FOUND)
    other = applied(tmp_path, "http://other:8000", [A100])
    assert other == Applied(2, f"what was measured was {URL}, not http://other:8000; {table}")


@pytest.mark.parametrize("text", ["{}", "{", '{"recommended": 0}', "\xff"])
def test_a_report_that_cannot_be_read_is_none_and_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "calibration.json").write_text(text, "latin-1")
    found = applied(tmp_path, URL, [])
    assert (found.concurrency, found.is_measured) == (1, False)
    assert "calibration.json cannot be read" in found.why
    with pytest.raises(CalibrationError):
        read_report(tmp_path)


def test_auto_is_one_where_nothing_is_known_of_server_or_gpu(tmp_path: Path) -> None:
    found = applied(tmp_path, URL, [Gpu(0, "NVIDIA RTX A4000", 16 * GIB)])
    assert (found.concurrency, found.is_measured) == (1, False)
    assert found.why.endswith("one at a time is what never is too much")


@pytest.mark.parametrize(
    ("request_json", "kind"),
    [('{"messages": [], "stop": "x"}', Kind.CHAT), ('{"prompt": "Once"}', Kind.COMPLETIONS)],
)
def test_a_request_of_one_s_own_is_sent_as_it_is(
    tmp_path: Path, request_json: str, kind: Kind
) -> None:
    path = tmp_path / "request.json"
    path.write_text(request_json, "utf-8")
    call = question_of("llama3.2", path, 128).call(7)
    assert (call.kind, call.model) == (kind, "llama3.2")
    assert bytes(call.request).decode() == request_json.replace(": ", ":").replace(", ", ",")


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"input": "x"}'])
def test_a_file_that_is_no_such_request_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "request.json"
    path.write_text(text, "utf-8")
    with pytest.raises(CalibrationError, match=r"request\.json"):
        question_of("llama3.2", path, 128)
    with pytest.raises(CalibrationError, match="cannot be read: No such file"):
        question_of("llama3.2", tmp_path / "none.json", 128)


def test_our_own_request_asks_for_as_many_tokens_as_it_is_told() -> None:
    assert b'"max_tokens":16' in bytes(Question("llama3.2", tokens=16).call(1).request)
