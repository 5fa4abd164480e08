"""A worker's own `/healthz`, `/readyz` and `/metrics`, on WORKER_PORT.

Ready means that claiming works: a process that runs while its connection is dead is not.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from litestar import Litestar, Response, get
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE
from msgspec import UNSET, Struct, UnsetType

from consumers.worker import Worker

STALE_SECONDS: Final = 10.0
METRICS_MEDIA_TYPE: Final = "text/plain; version=0.0.4"  # The charset follows.


class WorkerHealth(Struct, frozen=True, kw_only=True):
    status: str
    worker: str
    running: int
    capacity: int
    models: list[str]
    note: str | UnsetType = UNSET  # What an operator has to know, though jobs are run.


def create_health_app(worker: Worker, expose: Callable[[], Awaitable[bytes]]) -> Litestar:
    """The health of `worker` as an application, and what `expose` says to Prometheus."""

    def health(status: str) -> WorkerHealth:
        return WorkerHealth(
            status=status,
            worker=worker.identity.name,
            running=len(worker.leases),
            capacity=worker.identity.concurrency,
            models=sorted(worker.models.names),
            note=worker.tail.loss or UNSET,
        )

    @get("/healthz")
    async def healthz() -> WorkerHealth:
        return health("ok")

    @get("/readyz")
    async def readyz() -> Response[WorkerHealth]:
        trouble = _trouble(worker)
        status_code = HTTP_200_OK if trouble is None else HTTP_503_SERVICE_UNAVAILABLE
        return Response(health(trouble or "ready"), status_code=status_code)

    @get("/metrics")
    async def metrics() -> Response[bytes]:
        return Response(await expose(), media_type=METRICS_MEDIA_TYPE)

    return Litestar([healthz, readyz, metrics], openapi_config=None, logging_config=None)


def _trouble(worker: Worker) -> str | None:
    if not worker.models.names:
        return "the upstream does not answer, or serves no model"
    if worker.tail.trouble is not None:
        return worker.tail.trouble
    is_full = len(worker.leases) >= worker.identity.concurrency
    if not is_full and time.monotonic() - worker.claimed_at > STALE_SECONDS:
        return "nothing could be claimed of late: Redis does not answer"
    return None
