"""Readers of a job's two streams, which are cut off again and again and resume where they were."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from random import Random
from typing import Any, Final

import httpx
from httpx_sse import ServerSentEvent, SSEError, aconnect_sse
from msgspec import Struct

from tests.chaos.front import Front

ENDINGS: Final = frozenset({"completed", "failed", "cancelled", "expired"})
_LEAVES_AFTER_A_MESSAGE: Final = 0.05  # The share of messages after which a reader hangs up.
_RECONNECT_SECONDS: Final = 0.1
_READ_FOR_SECONDS: Final = 120.0


class SeenEvent(Struct, frozen=True):
    """A message of `/events`."""

    version: int
    type: str
    position: str


class SeenOutput(Struct, frozen=True):
    """A message of `/output`: its name, and the chunk's claim, number and text if it is one."""

    name: str
    claim: int = 0
    sequence: int = 0
    text: str = ""


class Reading(Struct):
    """What one reader saw of one job. It is whole once the stream has come to the job's ending."""

    job_id: str
    is_whole: bool = False
    resumed: int = 0
    events: list[SeenEvent] = []
    output: list[SeenOutput] = []


async def read_events(front: Front, rng: Random, job_id: str) -> Reading:
    """Read all events of a job, until it ends."""
    reading = Reading(job_id, events=[])
    async with aclosing(_messages(front, rng, reading, "events")) as messages:
        async for message in messages:
            fields = message.json()
            reading.events.append(SeenEvent(int(message.id), message.event, fields["position"]))
    return reading


async def read_output(front: Front, rng: Random, job_id: str) -> Reading:
    """Read a job's output, until it ends."""
    reading = Reading(job_id, output=[])
    async with aclosing(_messages(front, rng, reading, "output")) as messages:
        async for message in messages:
            reading.output.append(_seen_output(message))
    return reading


async def _messages(
    front: Front, rng: Random, reading: Reading, way: str
) -> AsyncGenerator[ServerSentEvent, None]:
    """Every message up to the one that ends the job, over as many connections as it takes."""
    path = f"/v1/jobs/{reading.job_id}/{way}"
    last_id, until = "", time.monotonic() + _READ_FOR_SECONDS
    while time.monotonic() < until:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        try:
            async with aconnect_sse(front.next_client(), "GET", path, headers=headers) as source:
                status = source.response.status_code
                if status not in {200, 503}:
                    front.violations.append(f"GET {path}: {status}")
                    return
                async for message in source.aiter_sse():
                    last_id = message.id or last_id
                    yield message
                    if message.event in ENDINGS:
                        reading.is_whole = True
                        return
                    if rng.random() < _LEAVES_AFTER_A_MESSAGE:
                        break
        except (httpx.HTTPError, SSEError):
            pass
        reading.resumed += 1
        await asyncio.sleep(_RECONNECT_SECONDS)
    front.violations.append(f"GET {path}: no ending within {_READ_FOR_SECONDS:g} s")


def _seen_output(message: ServerSentEvent) -> SeenOutput:
    if message.event != "chunk":
        return SeenOutput(message.event)
    claim, sequence = map(int, message.id.split("-"))
    return SeenOutput(message.event, claim, sequence, _text_of(json.loads(message.data)))


def _text_of(chunk: dict[str, Any]) -> str:
    return str(chunk["choices"][0]["delta"]["content"])
