"""A Litestar handler that does nothing but decode a submission, served as the API is.

`python -m benchmarks.bare PORT`
"""

import asyncio
import sys

from litestar import Litestar, post
from litestar.params import RawBody
from msgspec import Struct

from api.bodies import decode_body
from api.schemas import SubmitJob
from cli.loop import run
from cli.serving import bind, serving


class Accepted(Struct):
    model: str


@post("/v1/jobs", status_code=202)
async def accept(body: RawBody) -> Accepted:
    return Accepted(decode_body(body, SubmitJob).model)


async def _serve(port: int) -> None:
    app = Litestar([accept], openapi_config=None, logging_config=None)
    async with serving(app, bind("127.0.0.1", port, "PORT")):
        await asyncio.Event().wait()


if __name__ == "__main__":
    run(_serve(int(sys.argv[1])))
