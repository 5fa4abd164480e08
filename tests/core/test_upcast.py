"""Old stored shapes are read as today's, one step a schema."""

from typing import Any

import pytest

from core import head, log, upcast
from core.errors import FromTheFuture, Unreadable
from core.events import Claimed, Submitted
from core.states import Lane, Queued

Fields = dict[str, Any]


def test_what_an_older_release_wrote_passes_through_every_step_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def renamed(what: str, fields: dict[str, Any]) -> dict[str, Any]:
        return {"lane": fields["band"]} if what == "head" else fields

    def with_default(what: str, fields: dict[str, Any]) -> dict[str, Any]:
        return fields | {"what": what}

    monkeypatch.setattr(upcast, "SCHEMA", 3)
    monkeypatch.setattr(upcast, "_UPCASTERS", {1: renamed, 2: with_default})
    assert upcast.upcast("head", {"band": "front"}, 1) == {"lane": "front", "what": "head"}
    assert upcast.upcast("claimed", {"lane": "low"}, 2) == {"lane": "low", "what": "claimed"}
    assert upcast.upcast("claimed", {"lane": "low"}, 3) == {"lane": "low"}
    with pytest.raises(FromTheFuture, match="upgrade"):
        upcast.upcast("claimed", {}, 4)


def first_step(what: str, fields: Fields) -> Fields:
    """Schema 1 had a claim's number under `fence`, and heads had no tenant."""
    match what:
        case "claimed":
            return {"claim" if name == "fence" else name: fields[name] for name in fields}
        case "head":
            return fields | {"tenant": "default"}
        case _:
            return fields


def second_step(what: str, fields: Fields) -> Fields:
    """Schema 2 counted a claim from 0, and a head's lanes were called bands. It needs the first one."""
    match what:
        case "claimed":
            return fields | {"claim": fields["claim"] + 1}
        case "head":
            renamed = {"lane" if name == "band" else name: fields[name] for name in fields}
            return renamed | {"tenant": fields["tenant"].upper()}
        case _:
            return fields


@pytest.fixture
def third_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that has come to schema 3."""
    for module in (upcast, log, head):
        monkeypatch.setattr(module, "SCHEMA", 3)
    monkeypatch.setattr(upcast, "_UPCASTERS", {1: first_step, 2: second_step})


@pytest.mark.usefixtures("third_schema")
@pytest.mark.parametrize(
    ("schema", "data"),
    [
        (1, b'{"type":"claimed","fence":6,"attempt":1,"worker":"w1"}'),
        (2, b'{"type":"claimed","claim":6,"attempt":1,"worker":"w1"}'),
        (3, b'{"type":"claimed","claim":7,"attempt":1,"worker":"w1"}'),
    ],
)
def test_a_log_entry_of_each_schema_is_read_as_today_s(schema: int, data: bytes) -> None:
    fields = {"q": "12", "j": "job", "v": "3", "t": "claimed", "o": "op", "s": str(schema)}
    raw = {name.encode(): text.encode() for name, text in fields.items()} | {b"d": data}
    assert log.entry_of([b"5-0", raw]).event == Claimed(claim=7, attempt=1, worker="w1")


@pytest.mark.usefixtures("third_schema")
@pytest.mark.parametrize(
    ("schema", "stored"),
    [
        (1, {"band": "front"}),
        (2, {"band": "front", "tenant": "default"}),
        (3, {"lane": "front", "tenant": "DEFAULT"}),
    ],
)
def test_a_head_of_each_schema_is_read_as_today_s(schema: int, stored: dict[str, str]) -> None:
    known = {"status": "queued", "version": "1", "queue": "q", "model": "m", "timeout_ms": "5"}
    fields = known | {"attempts_max": "3", "1": "5-0", "entry": "7-0", "schema": str(schema)}
    flat = [word.encode() for pair in (fields | stored).items() for word in pair]
    read = head.head_of(flat)
    assert read is not None
    assert read.job == Queued(
        version=1,
        queue="q",
        model="m",
        timeout_ms=5,
        attempts_max=3,
        tenant="DEFAULT",
        lane=Lane.FRONT,
    )
    assert (read.entry, read.log_ids) == ("7-0", ("5-0",))


@pytest.mark.usefixtures("third_schema")
def test_what_a_fourth_schema_wrote_is_refused_by_name() -> None:
    with pytest.raises(FromTheFuture, match="claimed was written under schema 4"):
        log.decode_event("claimed", b"{}", 4)
    with pytest.raises(FromTheFuture, match="head was written under schema 4"):
        head.head_of([b"schema", b"4"])


@pytest.mark.usefixtures("third_schema")
@pytest.mark.parametrize("schema", [1, 2, 3])
def test_a_body_passes_through_every_step_byte_for_byte(schema: int) -> None:
    body = b'{ "n": 1.10, "o":{"a":1, "a":2}, "big": 12345678901234567890123 , "s":"\\u00e9" }'
    data = b'{"type":"submitted","queue":"q","model":"m","tenant":"t","request":%s,' % body
    event = log.decode_event("submitted", data + b'"timeout_ms":5,"attempts_max":3}', schema)
    assert isinstance(event, Submitted)
    assert bytes(event.request) == body


def test_what_says_that_it_can_be_read_is_read_and_what_it_adds_is_passed_over() -> None:
    data = b'{"type":"claimed","claim":7,"attempt":1,"worker":"w1","gpu":"a4000"}'
    newer = upcast.SCHEMA + 1
    claimed = Claimed(claim=7, attempt=1, worker="w1")
    assert log.decode_event("claimed", data, newer, readable_from=upcast.SCHEMA) == claimed
    with pytest.raises(FromTheFuture, match="upgrade it"):
        log.decode_event("claimed", data, newer, readable_from=newer)
    with pytest.raises(FromTheFuture, match="upgrade it"):
        log.decode_event("claimed", data, newer)


def test_a_word_that_this_release_does_not_know_is_from_the_future_if_its_writer_was() -> None:
    data = b'{"type":"attempt_lost","claim":1,"worker":"w1","why":"bored"}'
    newer = upcast.SCHEMA + 1
    with pytest.raises(FromTheFuture, match=rf"'attempt_lost' of schema {newer}.*bored.*upgrade"):
        log.decode_event("attempt_lost", data, newer, readable_from=upcast.SCHEMA)
    with pytest.raises(Unreadable, match="bored"):
        log.decode_event("attempt_lost", data)
