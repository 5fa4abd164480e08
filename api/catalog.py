"""The workers there are, and the models that they serve."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from api.errors import ApiError
from core.roster import Crew, Member, Roster

ROSTER_SECONDS: Final = 1.0  # How old the list of workers may be.


class Catalog:
    """The workers and the models that they serve, looked up at most once a second."""

    def __init__(self, roster: Roster, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._roster = roster
        self._monotonic = monotonic
        self._crew = Crew()
        self._looked_at = float("-inf")  # When the look began that brought them.
        self._looking: asyncio.Task[None] | None = None

    async def members(self) -> list[Member]:
        """The workers whose facts this release can read. Raises StoreUnavailable."""
        return list((await self.crew()).members)

    async def crew(self, older_than_seconds: float = ROSTER_SECONDS) -> Crew:
        """The workers, as they were at most so long ago. Raises StoreUnavailable."""
        since = self._monotonic() - older_than_seconds
        while self._looked_at < since:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look())
                self._looking.add_done_callback(self._looked)
            # Shared: whoever comes while Redis is slow joins in.
            await asyncio.shield(self._looking)
        return self._crew

    async def _look(self) -> None:
        try:
            began = self._monotonic()
            self._crew = await self._roster.crew()
            self._looked_at = began
        finally:
            # Not a moment later: who awaits what is done never lets the loop go on, so nobody could clear it.
            self._looking = None

    @staticmethod
    def _looked(looking: asyncio.Task[None]) -> None:
        if not looking.cancelled():
            looking.exception()  # Whoever still waits for it raises it.

    async def check(self, model: str) -> str | None:
        """Nothing, or a note that nobody alive serves the model. ApiError 404 if nobody ever did."""
        crew = await self.crew()
        if not any(model in one.models for one in crew.everybody):
            crew = await self.crew(0.0)
        serving = [one for one in crew.everybody if model in one.models]
        if not serving:
            names = ", ".join(sorted({name for one in crew.everybody for name in one.models}))
            message = f"no worker serves the model {model!r}; served are: {names or 'none yet'}"
            raise ApiError(404, "model_not_found", message, param="model")
        if not any(one.heartbeat for one in serving):
            return f"no worker that serves {model!r} is alive just now; the job waits for one"
        return None
