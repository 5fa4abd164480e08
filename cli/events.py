"""How a job's events look on a terminal."""

import json
from typing import Any

from rich.table import Table
from rich.text import Text


def transitions(events: list[dict[str, Any]]) -> Table:
    """A job's events as a table."""
    table = Table(box=None, header_style="dim")
    for column in ("version", "at", "event", "what"):
        table.add_column(column)
    for event in events:
        what = Text(what_of(event))  # As it is: it may look like rich's markup.
        table.add_row(str(event["version"]), event["at"], event["type"], what)
    return table


def what_of(event: dict[str, Any]) -> str:
    """The small facts of an event in one line; requests and results are left out."""
    small = {
        name: value
        for name, value in event.items()
        if name not in {"version", "at", "type", "position", "request", "result"}
        and value not in (None, {}, [], "", 0)
    }
    return " ".join(f"{name}={_short(value)}" for name, value in small.items())


def _short(value: Any) -> str:
    if isinstance(value, dict) and "message" in value:
        return f"{value.get('kind')}: {value['message']}"  # Why a job failed, in full.
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:79] + "…"
