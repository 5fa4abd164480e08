"""HTTP servers inside our own event loop: uvicorn without its signal handling, on sockets we bind."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from math import ceil
from typing import Final

import uvicorn
from litestar.types import ASGIApp

from cli.protocol import WireLimits, bounded
from core.errors import Mendable
from core.redis import REPLY_TIMEOUT_SECONDS

# For open requests. Whoever waits for a Redis that hangs has an answer by then; to be cut off would be
# a 500.
_GRACE_SECONDS: Final = ceil(REPLY_TIMEOUT_SECONDS) + 1
_BACKLOG: Final = 2_048
_STARTED_POLL_SECONDS: Final = 0.01
# Longer than proxies and clients keep idle connections, so that they close them and not we: whoever
# sends a request at that moment cannot know whether it was read.
_KEEP_ALIVE_SECONDS: Final = 75


class PortTaken(Mendable):
    """Somebody else listens there; the message names the variable to change."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program, which stops its parts in order."""
        yield


def bind(host: str, port: int, variable: str) -> socket.socket:
    """A listening socket. Raises PortTaken."""
    try:
        listening = socket.create_server((host, port), backlog=_BACKLOG)
        # Without it a small answer waits for the client's acknowledgement of the headers.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise PortTaken(f"{variable}={port}: cannot listen on {host}: {error.strerror}") from error


@asynccontextmanager
async def serving(
    app: ASGIApp,
    listening: socket.socket,
    limits: WireLimits | None = None,
    trusted_proxies: tuple[str, ...] = (),
) -> AsyncIterator[str]:
    """The base URL of `app`, which is served until the block ends.

    What `X-Forwarded-For` and `X-Forwarded-Proto` say is believed of these proxies, and of nobody else.
    """
    config = uvicorn.Config(
        app,
        http=bounded(limits or WireLimits()),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started and not task.done():
            await asyncio.sleep(_STARTED_POLL_SECONDS)
        if task.done():
            task.result()
            raise RuntimeError("the HTTP server did not start; the log says why")
        host, port = listening.getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await task
