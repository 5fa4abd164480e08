"""Processes, and what lies between them and Redis: calls that are late, lost, doubled, or cut short by a crash.

A request that has left arrives or does not, whatever has become of its sender: who gave up on a call,
or died, may find it executed later.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextvars import Context, ContextVar, copy_context
from enum import StrEnum
from random import Random
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError

from tests.simulation.doorbells import PubSub
from tests.simulation.server import Answer, Server
from tests.simulation.witness import Broken, Witness

_PROCESS: ContextVar["Process"] = ContextVar("process")
_SLOW_SECONDS: Final = (0.05, 8.0)  # Up to longer than anybody has patience.


class Fate(StrEnum):
    """What becomes of a call."""

    ARRIVES = "arrives"
    REQUEST_LOST = "request lost"
    REQUEST_SLOW = "request slow"
    REQUEST_TWICE = "request twice"
    REPLY_LOST = "reply lost"
    REPLY_SLOW = "reply slow"
    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"


class Step(NamedTuple):
    """One line of a trace. It holds nothing that differs between two runs of one seed."""

    seconds: float
    process: str
    call: str
    fate: str
    outcome: str

    def __str__(self) -> str:
        return f"{self.seconds:9.3f}  {self.process:<10} {self.call:<10} {self.fate:<13} {self.outcome}"


class Weather:
    """How likely each fate is, and how long a call takes: drawn from the seed, for one run."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.latency_seconds = random.choice((0.001, 0.01, 0.05))
        # Some faults and not others, or the frequent ones would hide what the rare ones lead to.
        self._rates = {
            fate: random.choice((0.0, 0.0, 0.01, 0.03, 0.1))
            / (8 if fate in (Fate.CRASH_BEFORE, Fate.CRASH_AFTER) else 1)
            for fate in Fate
            if fate is not Fate.ARRIVES
        }
        self.bells_lost = random.choice((0.0, 0.0, 0.1, 1.0))

    def calm(self) -> None:
        """No more faults."""
        self._rates, self.bells_lost = {}, 0.0
        self.latency_seconds = min(self.latency_seconds, 0.01)

    def fate(self) -> Fate:
        left = self.random.random()
        for fate, rate in self._rates.items():
            left -= rate
            if left < 0:
                return fate
        return Fate.ARRIVES

    def loses_bell(self) -> bool:
        return self.bells_lost > 0 and self.random.random() < self.bells_lost

    def latency(self) -> float:
        return self.random.expovariate(1 / self.latency_seconds)

    def slow(self) -> float:
        return self.random.uniform(*_SLOW_SECONDS)


class Process:
    """What crashes, freezes and is cut off as one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.frozen_until = 0.0
        self.cut_until = 0.0
        self._tasks: list[asyncio.Task[Any]] = []  # In order, as a crash has to be the same again.

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of this process; the tasks that it makes are this process's too."""
        context = copy_context()
        context.run(_PROCESS.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)

    def end(self) -> None:
        """Nothing of it runs any more but clean-up, and that reaches nobody."""
        self.is_dead = True
        for task in self._tasks:
            task.cancel()

    def own(self, task: asyncio.Task[Any]) -> None:
        self._tasks.append(task)


def make_task(
    loop: asyncio.AbstractEventLoop, work: Any, context: Context | None = None
) -> asyncio.Task[Any]:
    """The loop's task factory: a task belongs to the process that it was made in."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
    process = context.get(_PROCESS) if context else _PROCESS.get(None)
    if process is not None:
        process.own(task)
    return task


class _Call(NamedTuple):
    process: Process
    args: Sequence[Any]
    options: dict[str, Any]
    fate: Fate
    reply: asyncio.Future[Any]

    @property
    def name(self) -> str:
        """The function's name without its library's, or the command."""
        is_function = self.args[0] == "FCALL"
        return str(self.args[1]).split("_", 2)[2] if is_function else str(self.args[0])


class Network:
    """Carries the calls of all processes to one server."""

    def __init__(self, server: Server, weather: Weather, witness: Witness) -> None:
        self.trace: list[Step] = []
        self.in_flight = 0
        self.away_until = 0.0  # Redis answers nobody.
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._server = server
        self._weather = weather
        self._witness = witness
        self._loop = asyncio.get_running_loop()
        self._listeners: list[tuple[Process, PubSub]] = []

    async def call(self, process: Process, args: Sequence[Any], options: dict[str, Any]) -> Any:
        """Redis's reply. Raises its refusal, or ConnectionError; may never return."""
        if process.is_dead:
            raise asyncio.CancelledError
        call = _Call(process, args, options, self._weather.fate(), self._loop.create_future())
        match call.fate:
            case Fate.CRASH_BEFORE:
                self._note(call, "never sent")
                process.end()
            case Fate.REQUEST_LOST:
                self._note(call, "lost")
                self._disconnect(call)
            case Fate.REQUEST_SLOW:
                self._send(call, self._weather.slow())
            case _:
                self._send(call, self._weather.latency())
        return await call.reply

    def _send(self, call: _Call, seconds: float) -> None:
        self.in_flight += 1
        leaves = max(self._loop.time(), call.process.frozen_until)
        self._loop.call_at(leaves + seconds, self._arrive, call)

    def _arrive(self, call: _Call, is_again: bool = False) -> None:
        self.in_flight -= 1
        now = self._loop.time()
        if now < max(call.process.cut_until, self.away_until):
            self._note(call, "cut off")
            self._disconnect(call)
            return
        answer = self._server.execute(now, call.args, **call.options)
        try:
            outcome = self._witness.saw(call.name, answer)
        except Broken as error:
            self._note(call, "BROKEN")
            self.break_off(error)
            return
        self._note(call, "again: " + outcome if is_again else outcome)
        self._ring(answer)
        self._reply(call, answer, is_again)

    def _reply(self, call: _Call, answer: Answer, is_again: bool) -> None:
        delay = self._weather.latency()
        match call.fate:
            case Fate.REQUEST_TWICE if not is_again:
                self.in_flight += 1
                self._loop.call_later(self._weather.slow(), self._arrive, call, True)
            case Fate.CRASH_AFTER:
                call.process.end()
                return
            case Fate.REPLY_LOST:
                self._disconnect(call)
                return
            case Fate.REPLY_SLOW:
                delay = self._weather.slow()
        self._deliver(call, answer.reply, self._loop.time() + delay)

    def _deliver(self, call: _Call, reply: Any, at: float) -> None:
        """Hand over a reply, once the process can take it."""
        if at > self._loop.time():
            self._loop.call_at(at, self._deliver, call, reply, at)
        elif call.process.frozen_until > self._loop.time():
            self._deliver(call, reply, call.process.frozen_until)
        elif not call.reply.done():
            if isinstance(reply, Exception):
                call.reply.set_exception(reply)
            else:
                call.reply.set_result(reply)

    def _disconnect(self, call: _Call) -> None:
        """Half of those who are cut off hear of it; the others wait for as long as they are willing to."""
        if self._weather.random.random() < 0.5:
            error = Disconnected("the connection is lost")
            self._deliver(call, error, self._loop.time() + self._weather.latency())

    def _ring(self, answer: Answer) -> None:
        for channel, data in answer.bells:
            for _, listener in self._listeners:
                if listener.hears(channel) and not self._weather.loses_bell():
                    self._loop.call_later(self._weather.latency(), listener.ring, channel, data)

    def listen(self, process: Process) -> PubSub:
        """A connection for doorbells, which breaks when its process is cut off."""
        listener = PubSub(self._weather.latency, lambda: self._is_cut(process))
        self._listeners.append((process, listener))
        return listener

    def cut(self, process: Process | None, seconds: float) -> None:
        """Let nothing through to Redis for so long: of one process, or of all of them."""
        until = self._loop.time() + seconds
        if process is None:
            self.away_until = until
        else:
            process.cut_until = until
        for owner, listener in self._listeners:
            if process in (None, owner):
                listener.cut()

    def _is_cut(self, process: Process) -> bool:
        return self._loop.time() < max(process.cut_until, self.away_until)

    def _note(self, call: _Call, outcome: str) -> None:
        seconds = round(self._loop.time(), 3)
        self.trace.append(Step(seconds, call.process.name, call.name, call.fate, outcome))

    def say(self, who: str, what: str) -> None:
        """Put in the trace what happens to a process, or what a client was told."""
        self.trace.append(Step(round(self._loop.time(), 3), who, "", "", what))

    def break_off(self, error: BaseException) -> None:
        """End the run: something is not as it must be."""
        if not self.broken.done():
            self.broken.set_exception(error)


class SimulatedRedis(Redis):
    """Stands in for the connection that a process has to Redis."""

    def __init__(self, network: Network, process: Process) -> None:
        # Without Redis's own, which would prepare a connection that is never made.
        self._network = network
        self._process = process

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        return await self._network.call(self._process, args, options)

    def pubsub(self, **_: Any) -> Any:
        return self._network.listen(self._process)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Any:
        assert not transaction
        return _Pipeline(self)


class _Pipeline:
    """Commands in order on one connection; others come in between, as they may."""

    def __init__(self, redis: SimulatedRedis) -> None:
        self._redis = redis
        self._commands: list[tuple[Any, ...]] = []

    async def __aenter__(self) -> "_Pipeline":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._commands.clear()

    def execute_command(self, *args: Any) -> None:
        self._commands.append(args)

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        return [await self._reply(args) for args in self._commands]

    async def _reply(self, args: tuple[Any, ...]) -> Any:
        try:
            return await self._redis.execute_command(*args)
        except ResponseError as error:
            return error


class DirectRedis(Redis):
    """The simulation's own access: at once, without faults, and unseen by the witness."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        now = asyncio.get_running_loop().time()
        reply = self._server.execute(now, args, **options).reply
        if isinstance(reply, Exception):
            raise reply
        return reply
