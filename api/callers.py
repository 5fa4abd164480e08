"""Callers that wait for an answer, and may leave before it is there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from litestar import Request

Answer = TypeVar("Answer")


class CallerLeft(Exception):
    """Whoever asked has closed the connection; nobody would get the answer."""


async def unless_left(request: Request[Any, Any, Any], work: Coroutine[Any, Any, Answer]) -> Answer:
    """What `work` returns or raises. Raises CallerLeft, with `work` cancelled, if the caller goes first.

    The request's body must have been read, or be of no interest.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CallerLeft
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
