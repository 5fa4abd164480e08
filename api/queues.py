"""`/v1/queues/{name}`: pausing and resuming a queue."""

from dataclasses import dataclass
from typing import Annotated, Any

from litestar import Controller, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Operation
from litestar.params import RawBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta, Struct

from api.access import allows
from api.bodies import body_of, decode_body
from api.desk import Desk
from api.lists import QueuePath, check_queue
from core.access import Scope
from core.queues import QueueState


class Pause(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a queue is paused, for whoever reads the log."""

    reason: Annotated[str, Meta(max_length=512)] | None = None


@dataclass
class PauseOperation(Operation):
    """Pausing as the OpenAPI document shows it."""

    def to_schema(self) -> dict[str, Any]:
        return super().to_schema() | {"requestBody": body_of(Pause, required=False)}


class QueuesController(Controller):
    path = "/v1/queues/{name:str}"
    tags = ("queues",)
    opt = allows(Scope.OPERATE)

    @post("/pause", status_code=HTTP_200_OK, operation_class=PauseOperation)
    async def pause(
        self, name: QueuePath, body: RawBody, desk: NamedDependency[Desk]
    ) -> QueueState:
        """Let no job of a queue be claimed until it is resumed. It takes submissions all the same."""
        asked = decode_body(body, Pause) if body else Pause()
        check_queue(name)
        return await desk.queues.set_paused(name, paused=True, by=desk.by, reason=asked.reason)

    @post("/resume", status_code=HTTP_200_OK)
    async def resume(self, name: QueuePath, desk: NamedDependency[Desk]) -> QueueState:
        """Let a queue's jobs be claimed again."""
        check_queue(name)
        return await desk.queues.set_paused(name, paused=False, by=desk.by)
