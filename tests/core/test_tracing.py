"""Which headers are believed, and which trace a job has that came without any."""

import pytest

from core.ids import job_id
from core.tracing import trace_id_for, trace_id_in, valid_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize("header", [SAMPLED, SAMPLED[:-1] + "0"])
def test_a_traceparent_is_kept_as_it_is(header: str) -> None:
    assert valid_traceparent(header) == header
    assert trace_id_in(header) == TRACE


def test_one_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert valid_traceparent(f"cc-{TRACE}-{SPAN}-01-what-comes-later") == SAMPLED


@pytest.mark.parametrize(
    "header",
    [
        "",
        "hello",
        SAMPLED.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-0é",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 600}",
    ],
)
def test_a_malformed_one_is_none(header: str, caplog: pytest.LogCaptureFixture) -> None:
    assert valid_traceparent(header) is None
    assert not caplog.records


def test_a_jobs_own_trace_is_the_same_for_all_and_another_jobs_is_another() -> None:
    first, second = job_id(1, 1, 0), job_id(1, 2, 0)
    assert trace_id_for(first) == trace_id_for(first) != trace_id_for(second)
    assert 0 < trace_id_for(first) < 2**128
