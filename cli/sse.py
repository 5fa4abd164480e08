"""Following a stream of server-sent events through lost connections and restarts of the API."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx
from httpx_sse import ServerSentEvent, SSEError, aconnect_sse

from cli.client import ClientError, key_header, refusal, unreachable

_RECONNECT_SECONDS: Final = 0.5
_SILENCE_SECONDS: Final = 45.0  # Three comments missed: the connection is dead.
_AWAY_SECONDS_MAX: Final = 60.0


def stream_client() -> httpx.AsyncClient:
    """A client for streams, which may be silent for a while."""
    timeout = httpx.Timeout(10.0, read=_SILENCE_SECONDS)
    return httpx.AsyncClient(timeout=timeout, trust_env=False, headers=key_header())


async def follow(
    client: httpx.AsyncClient,
    url: str,
    on_message: Callable[[ServerSentEvent], Awaitable[None]],
    is_last: Callable[[ServerSentEvent], bool],
    **options: Any,
) -> str:
    """Pass on every message up to the last one, and name that.

    A connection that is lost, or that the API closes as it stops, resumes after the last message. Raises
    ClientError for what the API refuses, and if it stays away.
    """
    loop = asyncio.get_running_loop()
    last_id, heard_at, was_there = "", loop.time(), False
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            async with aconnect_sse(client, "GET", url, headers=headers, **options) as source:
                was_there = True
                if source.response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                    raise httpx.RemoteProtocolError("its store does not answer")
                if source.response.status_code != httpx.codes.OK:
                    await source.response.aread()
                    raise ClientError(refusal(source.response))
                async for message in source.aiter_sse():
                    heard_at = loop.time()
                    last_id = message.id or last_id
                    await on_message(message)
                    if is_last(message):
                        return message.event
                trouble: Exception = httpx.RemoteProtocolError("it closed the stream")
        except (httpx.HTTPError, SSEError) as error:
            trouble = error
        if loop.time() - heard_at > _AWAY_SECONDS_MAX or not was_there:
            raise unreachable(url, trouble) from trouble
        await asyncio.sleep(_RECONNECT_SECONDS)
