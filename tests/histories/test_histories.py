"""What earlier releases wrote means today what it meant then."""

from enum import Enum
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec import Struct

from core import events
from core.events import AnyEvent, Event
from core.head import read_fields
from core.log import tag_of
from core.states import Job
from core.upcast import SCHEMA
from tests.histories.history import (
    DIGESTS,
    State,
    folded,
    head_fields,
    log_entries,
    paths,
    read,
)
from tests.histories.lives import LIVES
from tests.histories.record import digest_of, path_of

ALWAYS_ITS_DEFAULT = {"Enqueued.why"}  # So it is not stored.
KEPT_BY_THE_APPEND = {"schema", "readable_from", "entry", "due_at", "deadline_at"}

by_name = pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)


def kind_of(state: State) -> Any:
    return Job if isinstance(state, Job) else type(state)


@by_name
def test_a_history_folds_to_the_state_that_it_did(path: Path) -> None:
    history = read(path)
    state = folded(log_entries(history))
    assert state == read_fields(history.flat_head, kind_of(state))[0]
    if history.schema == SCHEMA:
        assert msgspec.json.decode(msgspec.json.encode(state)) == history.state


@pytest.mark.parametrize(
    "path",
    [path for path in paths() if read(path).schema == SCHEMA],  # As heads are written now.
    ids=lambda path: path.stem,
)
def test_a_head_is_kept_as_it_was(path: Path) -> None:
    history = read(path)
    fields = head_fields(log_entries(history))
    assert fields == {k: v for k, v in history.head.items() if k not in KEPT_BY_THE_APPEND}


@by_name
def test_a_history_is_dense(path: Path) -> None:
    entries = log_entries(read(path))
    assert [entry.version for entry in entries] == list(range(1, len(entries) + 1))
    assert [entry.subject for entry in entries] == [read(path).subject] * len(entries)
    assert sorted(entries, key=lambda entry: entry.sequence) == entries


def test_every_event_and_every_field_of_it_is_in_some_history() -> None:
    """One that is new needs a life in `tests/histories/lives.py`, and `python -m tests.histories.record`."""
    seen: set[str] = set()
    tags: set[str] = set()
    for path in paths():
        for entry in log_entries(read(path)):
            tags.add(tag_of(entry.event))
            seen |= said_in(entry.event)
    assert tags == {str(kind.__struct_config__.tag) for kind in get_args(AnyEvent)}
    assert not everything_that_can_be_said() - ALWAYS_ITS_DEFAULT - seen


def said_in(value: Any) -> set[str]:
    """The fields that have other values than their defaults, and the words that are used, all the way down."""
    if isinstance(value, Enum):
        return {f"{type(value).__name__} {value.value}"}
    if isinstance(value, tuple):
        return {said for item in value for said in said_in(item)}
    if not isinstance(value, Struct):
        return set()
    said: set[str] = set()
    for field in msgspec.structs.fields(type(value)):
        item = getattr(value, field.name)
        said |= said_in(item)
        if item != field.default:
            said.add(f"{type(value).__name__}.{field.name}")
    return said


def everything_that_can_be_said() -> set[str]:
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type)]
    fields: set[str] = {
        f"{kind.__name__}.{field.name}"
        for kind in kinds
        if issubclass(kind, Struct) and kind not in {Struct, Event}
        for field in msgspec.structs.fields(kind)
    }
    words: set[str] = {
        f"{kind.__name__} {word.value}" for kind in kinds if issubclass(kind, Enum) for word in kind
    }
    return fields | words


def test_histories_are_added_and_never_edited() -> None:
    """Each is what some release has really stored, and stores of that time are still out there."""
    digests = msgspec.json.decode(DIGESTS.read_bytes(), type=dict[str, str])
    edited = [path.name for path in paths() if digests.get(path.name) != digest_of(path)]
    assert not edited, "put back what was recorded; what is new gets a life and a file of its own"
    assert {path.name for path in paths()} == set(digests), "none is ever taken out"
    missing = [path_of(life).name for life in LIVES if not path_of(life).exists()]
    assert not missing, "python -m tests.histories.record"
