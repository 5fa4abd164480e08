"""A golden history: what one subject's log entries and its head were, exactly as Redis had them."""

from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from core.events import JobEvent, WorkerEvent
from core.fleet import Queue, Worker, evolve_queue, evolve_worker
from core.head import Value, changes
from core.job import evolve
from core.log import LogEntry, entry_of
from core.states import Job

FOLDER: Final = Path(__file__).parent
DIGESTS: Final = FOLDER / "digests.json"

State = Job | Worker | Queue


class History(Struct, frozen=True, kw_only=True):
    """What is stored, as text; and the state that it means, as JSON has it."""

    subject: str
    state: dict[str, Any]
    head: dict[str, str]  # Without the log id of each version, which the entries tell.
    entries: tuple[dict[str, str], ...]  # `id`, and the fields of the stream entry.

    @property
    def schema(self) -> int:
        """The schema that the head was written under."""
        return int(self.head["schema"])

    @property
    def flat_head(self) -> list[bytes]:
        """The head as Redis replies it."""
        versions = {entry["v"]: entry["id"] for entry in self.entries}
        return [word.encode() for pair in (self.head | versions).items() for word in pair]


def paths() -> list[Path]:
    """Every golden history that there is."""
    return sorted(path for path in FOLDER.glob("*.json") if path != DIGESTS)


def read(path: Path) -> History:
    return msgspec.json.decode(path.read_bytes(), type=History)


def log_entries(history: History) -> list[LogEntry]:
    """The entries as the program reads them, whichever release wrote them."""
    return [entry_of(_raw(entry)) for entry in history.entries]


def _raw(entry: dict[str, str]) -> list[Any]:
    fields = {name.encode(): text.encode() for name, text in entry.items() if name != "id"}
    return [entry["id"].encode(), fields]


def after(state: State | None, entry: LogEntry) -> State:
    """The subject after one more entry."""
    event = entry.event
    if isinstance(event, JobEvent):
        assert state is None or isinstance(state, Job)
        return evolve(state, event)
    if isinstance(event, WorkerEvent):
        assert state is None or isinstance(state, Worker)
        return evolve_worker(state, event)
    assert state is None or isinstance(state, Queue)
    return evolve_queue(state, event)


def folded(entries: list[LogEntry]) -> State:
    """The subject after all of its entries."""
    state: State | None = None
    for entry in entries:
        state = after(state, entry)
    assert state is not None
    return state


def head_fields(entries: list[LogEntry]) -> dict[str, str]:
    """The state's own fields of a head, as they are set and cleared entry by entry."""
    fields: dict[str, str] = {}
    state: State | None = None
    for entry in entries:
        before, state = state, after(state, entry)
        to_set, to_clear = changes(before, state)
        fields |= _pairs(to_set)
        for name in to_clear:
            fields.pop(name, None)
    return fields


def _pairs(flat: list[Value]) -> dict[str, str]:
    return {str(name): str(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}
