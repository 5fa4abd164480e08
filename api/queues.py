"""`/v1/queues/{name}`: how full a queue is, and pausing and resuming it."""

import re
from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, RawBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta, Struct

from api.bodies import decode_body
from api.desk import BY_API, Desk
from api.errors import ApiError
from core.queues import QueueState
from core.settings import QUEUE_NAME


class Pause(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a queue is paused, for whoever reads the log."""

    reason: Annotated[str, Meta(max_length=512)] | None = None


class QueuesController(Controller):
    path = "/v1/queues/{name:str}"
    tags = ("queues",)

    @get()
    async def show(self, name: FromPath[str], desk: NamedDependency[Desk]) -> QueueState:
        """How many jobs of a queue wait, are scheduled and run, and whether it is paused."""
        return await desk.queues.state(_checked(name))

    @post("/pause", status_code=HTTP_200_OK)
    async def pause(
        self, name: FromPath[str], body: RawBody, desk: NamedDependency[Desk]
    ) -> QueueState:
        """Let no job of a queue be claimed until it is resumed. It takes submissions all the same."""
        asked = decode_body(body, Pause) if body else Pause()
        return await desk.queues.set_paused(
            _checked(name), paused=True, by=BY_API, reason=asked.reason
        )

    @post("/resume", status_code=HTTP_200_OK)
    async def resume(self, name: FromPath[str], desk: NamedDependency[Desk]) -> QueueState:
        """Let a queue's jobs be claimed again."""
        return await desk.queues.set_paused(_checked(name), paused=False, by=BY_API)


def _checked(name: str) -> str:
    if not re.fullmatch(QUEUE_NAME, name):
        message = "a queue's name takes 1 to 64 letters, digits, dots, underscores and hyphens"
        raise ApiError(422, "invalid_value", message, param="queue")
    return name
