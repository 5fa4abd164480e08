"""`/healthz`: this process runs. `/readyz`: it can take a job now."""

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE
from msgspec import UNSET, Struct, UnsetType

from api.access import NO_KEY
from api.desk import Desk


class Health(Struct, frozen=True, kw_only=True):
    status: str
    note: str | UnsetType = UNSET  # What an operator has to know, though jobs are taken.


@get("/healthz", tags=["health"], opt=NO_KEY)
async def healthz() -> Health:
    """Always 200, as long as the process answers."""
    return Health(status="ok")


@get(
    "/readyz",
    tags=["health"],
    opt=NO_KEY,
    responses={
        HTTP_503_SERVICE_UNAVAILABLE: ResponseSpec(
            Health, description="It cannot take a job, for this reason.", generate_examples=False
        )
    },
)
async def readyz(desk: NamedDependency[Desk]) -> Response[Health]:
    """200 if Redis answers and a worker is alive, else 503 with the reason."""
    trouble = await desk.trouble()
    note = await desk.notes() or UNSET
    if trouble is None:
        return Response(Health(status="ready", note=note), status_code=HTTP_200_OK)
    return Response(Health(status=trouble, note=note), status_code=HTTP_503_SERVICE_UNAVAILABLE)
