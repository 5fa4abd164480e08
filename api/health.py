"""`/healthz`: this process runs. `/readyz`: it can take a job now."""

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE
from msgspec import Struct

from api.desk import Desk


class Health(Struct, frozen=True):
    status: str


@get("/healthz", tags=["health"])
async def healthz() -> Health:
    """Always 200, as long as the process answers."""
    return Health("ok")


@get("/readyz", tags=["health"])
async def readyz(desk: NamedDependency[Desk]) -> Response[Health]:
    """200 if Redis answers and a worker is alive, else 503 with the reason."""
    trouble = await desk.trouble()
    if trouble is None:
        return Response(Health("ready"), status_code=HTTP_200_OK)
    return Response(Health(trouble), status_code=HTTP_503_SERVICE_UNAVAILABLE)
