"""Reading server-sent events in tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from httpx_sse import ServerSentEvent, aconnect_sse

from tests.api.conftest import Api

PATIENCE_SECONDS = 10


class Stream:
    """A stream of server-sent events that is being read."""

    def __init__(self, events: AsyncIterator[ServerSentEvent]) -> None:
        self._events = events

    async def next(self) -> ServerSentEvent:
        """The next event; it is an error if the stream ends instead."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await anext(self._events)

    async def take(self, count: int) -> list[tuple[str, str]]:
        """The ids and names of the next events; one without an id has the last id before it."""
        return [named(await self.next()) for _ in range(count)]

    async def rest(self) -> list[tuple[str, str]]:
        """The ids and names of all that come, once the server has closed the stream."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return [named(event) async for event in self._events]


def named(event: ServerSentEvent) -> tuple[str, str]:
    return event.id, event.event


@asynccontextmanager
async def streaming(api: Api, path: str, last_event_id: str | None = None) -> AsyncIterator[Stream]:
    """Reads the stream at `path`, from `last_event_id` on."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    async with aconnect_sse(api.http, "GET", path, headers=headers) as source:
        assert source.response.status_code == 200, await source.response.aread()
        yield Stream(source.aiter_sse())


async def whole(api: Api, path: str, last_event_id: str | None = None) -> list[tuple[str, str]]:
    """The ids and names of a stream's events, from `last_event_id` to its end."""
    async with streaming(api, path, last_event_id) as stream:
        return await stream.rest()
