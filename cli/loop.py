"""The event loop of every role: uvloop, and a garbage collector that suits a server."""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import uvloop

# Almost all that a role allocates is freed by reference counts; the default of 700 has the collector
# look at every job in flight again and again (7 % of a worker's time on no-op jobs).
_GC_THRESHOLDS: Final = (20_000, 20, 50)

Result = TypeVar("Result")


def run(role: Coroutine[Any, Any, Result]) -> Result:
    """Run a role to its end."""
    gc.freeze()  # The modules stay for good.
    gc.set_threshold(*_GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(role)
