"""What looking back at an incident shows."""

import asyncio
import json
import subprocess
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from core.records import Bounds
from core.redis import connect
from core.store import EventStore
from projections.past.looking import state_at, timeline
from tests.past.incident import Incident
from tests.processes import RESPOOL, clean_environment


def look(played: Incident, *arguments: str, status: int = 0) -> str:
    """What `respool replay` prints; on standard error, if it is to fail."""
    done = subprocess.run(
        [RESPOOL, "replay", *arguments],
        check=False,
        env=clean_environment({"REDIS_URL": played.server.url}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


def span(played: Incident, more_ms: int = 0) -> tuple[str, ...]:
    """The options that mean all of it, and perhaps a while after it."""
    since, until = played.at_ms["started"], played.at_ms["over"] + more_ms
    return ("--from", f"{since / 1_000:.3f}", "--to", f"{until / 1_000:.3f}")


def state(played: Incident, what: str) -> dict[str, Any]:
    """The state at a moment of the incident."""
    found, notes = in_store(played, lambda store: state_at(store, played.at_ms[what]))
    assert not notes
    shown: dict[str, Any] = json.loads(msgspec.json.encode(found))
    return shown


def timeline_of(played: Incident, job: str) -> dict[str, Any]:
    told, notes = in_store(played, lambda store: timeline(store, job))
    assert not notes
    shown: dict[str, Any] = json.loads(msgspec.json.encode(told))
    return shown


def in_store(
    played: Incident, ask: Callable[[EventStore], Coroutine[Any, Any, tuple[Any, list[str]]]]
) -> tuple[Any, list[str]]:
    async def asking() -> tuple[Any, list[str]]:
        client = connect(played.server.url)
        try:
            return await ask(EventStore(client, 1, Bounds()))
        finally:
            await client.aclose()

    return asyncio.run(asking())
