"""A role of which nothing is counted or logged: `python -m benchmarks.unwatched api` (or `worker`).

What `benchmarks.watching` compares with: the roles have no setting for it. All else is as it is in them.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import patch

from cli.figures import JobFigures
from cli.main import main
from cli.roles import api, worker


class _NoFigures(JobFigures):
    def waited(self, queue: str, milliseconds: int) -> None:
        pass


@asynccontextmanager
async def _watching_nothing(*_: object) -> AsyncIterator[JobFigures]:
    yield _NoFigures()


if __name__ == "__main__":
    sys.argv[0] = "respool"
    with (
        patch.object(api, "watching", _watching_nothing),
        patch.object(worker, "watching", _watching_nothing),
        patch.object(api, "RequestFigures", lambda app, *_: app),
    ):
        main()
