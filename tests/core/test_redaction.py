"""What is taken out of an event, and that nothing else is."""

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from core import events
from core.events import ErrorKind, JobError, JobEvent, Timings
from core.log import decode_event, tag_of
from core.redaction import REDACTED, is_gone, redacted

WORD = "Kahlenbergerdorf"
ERROR = JobError(ErrorKind.REJECTED, f"no {WORD} here", 5)
OF_EACH_KIND: list[JobEvent] = [
    events.Submitted(
        queue="q",
        model="m",
        tenant="acme",
        request=Raw(f'{{"messages":["{WORD}"]}}'.encode()),
        timeout_ms=1,
        attempts_max=2,
        metadata={"a": WORD},
        key="k-1",
        traceparent="00-1-2-01",
    ),
    events.Enqueued(),
    events.Claimed(claim=1, attempt=1, worker="w"),
    events.AttemptFailed(claim=1, attempt=1, error=ERROR, delay_ms=7),
    events.AttemptLost(claim=1, worker="w", why=events.LostBecause.DRAINED),
    events.Completed(
        claim=1, attempt=1, result=Raw(f'"{WORD}"'.encode()), timings=Timings(3), chunks=4
    ),
    events.Failed(error=ERROR, attempts=1, deliveries=2, lost_workers=("w",)),
    events.CancelRequested(by="somebody", reason=WORD),
    events.Cancelled(by="somebody", reason=WORD),
    events.Expired(deadline_ms=5),
    events.Requeued(by="somebody"),
    events.Redacted(by="operator", reason="ticket 7"),
]
# What goes, by the event's name. Everything else stays.
GOES = {
    "submitted": {"request", "metadata"},
    "attempt_failed": {"error"},
    "completed": {"result"},
    "failed": {"error"},
    "cancel_requested": {"reason"},
    "cancelled": {"reason"},
}


def test_every_event_of_a_job_is_among_those_that_are_tried() -> None:
    assert {type(event) for event in OF_EACH_KIND} == set(get_args(JobEvent))


@pytest.mark.parametrize("event", OF_EACH_KIND, ids=tag_of)
def test_what_a_person_wrote_goes_and_all_else_stays(event: JobEvent) -> None:
    tag, data = tag_of(event), msgspec.json.encode(event)
    left = redacted(tag.encode(), data)
    assert WORD.encode() not in left
    after: Any = decode_event(tag, left)
    changed = {
        name for name in event.__struct_fields__ if getattr(after, name) != getattr(event, name)
    }
    assert changed == GOES.get(tag, set())
    assert (left is data) == (tag not in GOES)
    assert redacted(tag.encode(), left) is left, "nothing is left to take out"


def test_an_error_keeps_its_kind_and_what_the_server_asked_for() -> None:
    event = events.Failed(error=ERROR, attempts=1, deliveries=0)
    left: Any = decode_event("failed", redacted(b"failed", msgspec.json.encode(event)))
    assert left.error == JobError(ErrorKind.REJECTED, REDACTED, 5)


def test_a_body_that_is_gone_is_none_that_anybody_could_have_sent() -> None:
    event = OF_EACH_KIND[0]
    left: Any = decode_event("submitted", redacted(b"submitted", msgspec.json.encode(event)))
    assert is_gone(left.request)
    assert not is_gone(Raw(b"{}"))


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.integers())))
def test_fields_that_a_newer_release_added_stay_byte_for_byte(fields: dict[str, Any]) -> None:
    known = {"request": {"a": WORD}, "type": "submitted"}
    others = {
        name: value
        for name, value in fields.items()
        if name not in ("metadata", "reason", "error", "result")
    }
    left = msgspec.json.decode(redacted(b"submitted", msgspec.json.encode(others | known)))
    assert left == others | known | {"request": None}
