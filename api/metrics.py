"""`/metrics`, for Prometheus: how requests fare, and whatever else the process is told to say there."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from litestar import Response, get
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.access import NO_KEY
from api.routes import method_of, route_of
from core.tally import Counts, Durations

MEDIA_TYPE: Final = "text/plain; version=0.0.4"  # The charset follows.
NO_ROUTE: Final = (
    "none"  # The route of a path that there is not: it is the client's word, and not shown.
)
_LEFT: Final = "499"  # The client went before it had an answer; nginx's name for it.

Expose = Callable[[], Awaitable[bytes]]


def metrics_route(expose: Expose) -> HTTPRouteHandler:
    """The route of `/metrics`, which takes no key and says nothing of a job."""

    @get("/metrics", tags=["health"], opt=NO_KEY, media_type="text/plain")
    async def metrics() -> Response[bytes]:
        """Figures of this process and of the cluster, as Prometheus reads them (text format 0.0.4)."""
        return Response(await expose(), media_type=MEDIA_TYPE)

    return metrics


class RequestFigures:
    """An application whose requests are counted, and timed to the end of their answers.

    It stands around the whole application, so that it sees what a guard refuses and what no route takes.
    """

    def __init__(self, app: ASGIApp, counts: Counts, durations: Durations) -> None:
        """`counts` by method, route and code; `durations` by method and route."""
        self._app = app
        self._counts = counts
        self._durations = durations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        code = _LEFT
        began = time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            method, route = method_of(scope), route_of(scope) or NO_ROUTE
            self._counts.add(method, route, code)
            self._durations.note(time.perf_counter() - began, method, route)
