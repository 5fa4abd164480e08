"""One run: the simulation of one seed, played on a loop of its own."""

import asyncio
import logging
import random as random_module
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Self
from unittest.mock import patch

from core import timers
from core.log import LogEntry, tag_of
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Step, make_task
from tests.simulation.server import Server
from tests.simulation.witness import Broken
from tests.simulation.world import Simulation

_TIMERS_EVERY_SECONDS: Final = 0.5  # Nothing is gained by asking as often as at rest.


class Report(NamedTuple):
    """What a run was made of."""

    seed: int
    trace: tuple[Step, ...]
    log: tuple[tuple[str, str, int, str], ...]  # Id, subject, version and event of every log entry.
    fates: Counter[str]
    blows: Counter[str]
    events: Counter[str]
    accepted: int
    chunks: int


class Failed(Exception):
    """A run in which something was not as it must be."""

    def __init__(self, seed: int, why: str, trace: tuple[Step, ...]) -> None:
        super().__init__(f"seed {seed}: {why}")
        self.seed, self.why, self.trace = seed, why, trace

    def __reduce__(self) -> tuple[type[Self], tuple[int, str, tuple[Step, ...]]]:
        return type(self), (self.seed, self.why, self.trace)

    def command(self, kind: str) -> str:
        """What plays this run again."""
        return f"python -m tests.simulation --server {kind} --seed {self.seed}"


def run(server: Server, seed: int) -> Report:
    """The run of one seed, always the same. Raises Failed."""
    server.empty()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner, _quiet(seed):
        return runner.run(_run(server, seed))


@contextmanager
def _quiet(seed: int) -> Iterator[None]:
    """Without the product's log, and with its dice from the seed."""
    state, level = random_module.getstate(), logging.root.manager.disable
    random_module.seed(seed)
    logging.disable(logging.CRITICAL)
    try:
        with patch.object(timers, "SLEEP_MAX_SECONDS", _TIMERS_EVERY_SECONDS):
            yield
    finally:
        logging.disable(level)
        random_module.setstate(state)


async def _run(server: Server, seed: int) -> Report:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(make_task)
    simulation = Simulation(server, seed)
    network = simulation.network
    loop.set_exception_handler(lambda _, about: simulation.went_wrong(about))
    playing = loop.create_task(simulation.play())
    try:
        await asyncio.wait((playing, network.broken), return_when=asyncio.FIRST_COMPLETED)
        if network.broken.done():
            network.broken.result()
        playing.result()
    except Exception as error:
        raise Failed(seed, _why(error), tuple(network.trace)) from error
    finally:
        simulation.end()
        network.broken.cancel()
    return _report(simulation)


def _why(error: Exception) -> str:
    if isinstance(error, Broken):
        return str(error)
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({at.filename}:{at.lineno}: {at.line})"


def _report(simulation: Simulation) -> Report:
    trace, witness = simulation.network.trace, simulation.witness
    log = [entry for entries in witness.log.values() for entry in entries]
    return Report(
        seed=simulation.seed,
        trace=tuple(trace),
        log=tuple(map(_line, log)),
        fates=Counter(step.fate for step in trace if step.call),
        blows=simulation.blows,
        events=Counter(tag_of(entry.event) for entry in log),
        accepted=len(simulation.told.accepted),
        chunks=witness.chunks_written,
    )


def _line(entry: LogEntry) -> tuple[str, str, int, str]:
    return entry.id, entry.subject, entry.version, tag_of(entry.event)
