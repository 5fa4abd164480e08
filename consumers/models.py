"""Which models the upstream serves now: for others, and while it does not answer, nothing is claimed."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from consumers.upstream.base import Upstream, UpstreamError
from core.events import ErrorKind
from core.trouble import Trouble

log = logging.getLogger(__name__)

ASK_EVERY_SECONDS: Final = 10.0
_WHILE_AWAY_SECONDS: Final = 0.5
_SIGNS_OF_DEATH: Final = frozenset(
    {ErrorKind.CONNECT, ErrorKind.LOST_STREAM, ErrorKind.OVERLOAD, ErrorKind.TIMEOUT}
)


class ServedModels:
    """Asks an upstream for its models, regularly and when there is reason to doubt it."""

    def __init__(self, upstream: Upstream) -> None:
        self.names: frozenset[str] = frozenset()
        self._upstream = upstream
        self._in_doubt = asyncio.Event()
        self._trouble = Trouble(
            log,
            f"nothing is claimed until {upstream.address} lists its models (is UPSTREAM_URL right?)",
        )

    async def until_known(self) -> None:
        """Wait for the upstream, which may be starting too."""
        while True:
            await self.ask()
            if self.names:
                return
            await asyncio.sleep(_WHILE_AWAY_SECONDS)

    async def keep(self) -> None:
        """Ask for ever."""
        while True:
            pause_seconds = ASK_EVERY_SECONDS if self.names else _WHILE_AWAY_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    await self._in_doubt.wait()
            self._in_doubt.clear()
            await self.ask()

    def doubt(self, failure: UpstreamError) -> None:
        """After an error that a dead server would give: ask now, and claim nothing for one that is away.

        Otherwise every waiting job would spend its attempts on a server that is being restarted.
        """
        if failure.error.kind is ErrorKind.CONNECT:
            self.names = frozenset()
        if failure.error.kind in _SIGNS_OF_DEATH:
            self._in_doubt.set()

    async def ask(self) -> None:
        """Ask what the upstream serves; nothing, if it does not answer."""
        try:
            names = await self._upstream.models()
        except UpstreamError as error:
            self._trouble.is_there(error)
            names = frozenset()
        else:
            self._trouble.is_over()
        if names != self.names:
            self.names = names
            log.info("serves %s", ", ".join(sorted(names)) or "no model")
