"""What goes wrong, when and to whom: drawn from a seed, so that the same seed is the same run of faults.

Drawing is pure; `inject` does one of them to a cluster.
"""

import asyncio
import signal
from collections.abc import Iterable
from enum import StrEnum
from random import Random
from typing import Final

from msgspec import Struct

from tests.chaos.cluster import APIS, LEASE_SECONDS, PROJECTORS, WORKERS, Cluster

REDIS: Final = "redis"
MEAN_GAP_SECONDS: Final = 1.9
_REST_SECONDS: Final = 0.5  # Between two faults of one target.


class Kind(StrEnum):
    """The kinds of faults, as the report names them."""

    WORKER_KILLED = "worker killed (SIGKILL)"
    WORKER_FROZEN = "worker frozen beyond its lease (SIGSTOP)"
    WORKER_DRAINED = "worker drained (SIGTERM)"
    API_KILLED = "API killed (SIGKILL)"
    API_STOPPED = "API stopped (SIGTERM)"
    PROJECTOR_KILLED = "projector killed (SIGKILL)"
    PROJECTOR_FROZEN = "projector frozen (SIGSTOP)"
    CUT = "all connections reset"
    CUT_IN_REPLY = "connection reset in mid-reply"
    STALLED = "connections stalled within the lease"
    STALLED_LONG = "connections stalled beyond the lease"
    REPLIES_STALLED = "replies alone stalled beyond the lease"
    REFUSED = "connections refused"
    REDIS_KILLED = "Redis killed and restarted (SIGKILL)"
    REDIS_FROZEN = "Redis frozen (SIGSTOP)"


# A bag is emptied before the next one: so many faults are of every kind.
_BAG: Final = (*Kind, Kind.WORKER_KILLED, Kind.WORKER_FROZEN)

_WITHIN: Final = (0.2 * LEASE_SECONDS, 0.7 * LEASE_SECONDS)
_BEYOND: Final = (1.5 * LEASE_SECONDS, 3.0 * LEASE_SECONDS)
_LASTS_SECONDS: Final = {
    Kind.WORKER_FROZEN: _BEYOND,
    Kind.PROJECTOR_FROZEN: _BEYOND,
    Kind.STALLED: _WITHIN,
    Kind.STALLED_LONG: _BEYOND,
    Kind.REPLIES_STALLED: _BEYOND,
    Kind.REFUSED: (0.5, 2.5),
    Kind.REDIS_KILLED: (0.1, 1.5),
    Kind.REDIS_FROZEN: (0.5, 2.0),
}


class Fault(Struct, frozen=True, kw_only=True):
    """One fault: what, to whom, when, and for how long."""

    kind: Kind
    target: str  # The name of a place in the cluster, or REDIS.
    at_seconds: float  # From the start of the faults.
    lasts_seconds: float = 0.0
    after_bytes: int = 0  # Of a reply.

    def __str__(self) -> str:
        lasts = f" for {self.lasts_seconds:.2f} s" if self.lasts_seconds else ""
        return f"{self.at_seconds:8.2f} s  {self.target}: {self.kind}{lasts}"


class Injected(Struct, frozen=True, kw_only=True):
    """A fault that was done, and when by Redis's clock (None: it did not answer)."""

    fault: Fault
    at_ms: int | None
    pid: int | None  # Of the process that it was done to.


def draw(seed: int, count: int) -> tuple[Fault, ...]:
    """`count` faults in the order of their times, no two on one target at the same time."""
    rng = Random(seed)
    bag: list[Kind] = []
    busy_until: dict[str, float] = {}
    now = 0.0
    faults = []
    for _ in range(count):
        now += rng.uniform(0.2, 2 * MEAN_GAP_SECONDS - 0.2)
        if not bag:
            bag = list(_BAG)
            rng.shuffle(bag)
        fault = _drawn(rng, bag.pop(), now, busy_until)
        busy_until[fault.target] = fault.at_seconds + fault.lasts_seconds + _REST_SECONDS
        faults.append(fault)
    return tuple(sorted(faults, key=lambda fault: fault.at_seconds))


def _drawn(rng: Random, kind: Kind, now: float, busy_until: dict[str, float]) -> Fault:
    targets = list(_targets(kind))
    free = [target for target in targets if busy_until.get(target, 0.0) <= now]
    target = rng.choice(free or targets)
    low, high = _LASTS_SECONDS.get(kind, (0.0, 0.0))
    return Fault(
        kind=kind,
        target=target,
        at_seconds=round(max(now, busy_until.get(target, 0.0)), 2),
        lasts_seconds=round(rng.uniform(low, high), 2),
        after_bytes=rng.randrange(1, 400) if kind is Kind.CUT_IN_REPLY else 0,
    )


def _targets(kind: Kind) -> Iterable[str]:
    """Whom a fault can happen to. The first worker and the first API are never ended: they show leaks."""
    match kind:
        case Kind.REDIS_KILLED | Kind.REDIS_FROZEN:
            return (REDIS,)
        case Kind.WORKER_KILLED | Kind.WORKER_DRAINED:
            return WORKERS[1:]
        case Kind.API_KILLED | Kind.API_STOPPED:
            return APIS[1:]
        case Kind.WORKER_FROZEN:
            return WORKERS
        case Kind.PROJECTOR_KILLED | Kind.PROJECTOR_FROZEN:
            return PROJECTORS
        case _:
            return WORKERS + APIS + PROJECTORS


async def inject(cluster: Cluster, fault: Fault) -> Injected:
    """Do it, and undo it once it has lasted for its time."""
    at_ms = await cluster.redis_now_ms()
    if fault.target == REDIS:
        async with cluster.redis_trouble:
            await _trouble_redis(cluster, fault)
        return Injected(fault=fault, at_ms=at_ms, pid=None)
    member = cluster.members[fault.target]
    injected = Injected(fault=fault, at_ms=at_ms, pid=member.process.pid)
    proxy = member.proxy
    match fault.kind:
        case Kind.WORKER_KILLED | Kind.API_KILLED | Kind.PROJECTOR_KILLED:
            await cluster.kill(member)
        case Kind.WORKER_DRAINED | Kind.API_STOPPED:
            await cluster.drain(member)
        case Kind.WORKER_FROZEN | Kind.PROJECTOR_FROZEN:
            member.process.send(signal.SIGSTOP)
            await asyncio.sleep(fault.lasts_seconds)
            member.process.send(signal.SIGCONT)
        case Kind.CUT:
            proxy.cut()
        case Kind.CUT_IN_REPLY:
            proxy.cut_in_reply(fault.after_bytes)
        case Kind.STALLED | Kind.STALLED_LONG | Kind.REPLIES_STALLED:
            proxy.stall(replies_only=fault.kind is Kind.REPLIES_STALLED)
            await asyncio.sleep(fault.lasts_seconds)
            proxy.resume()
        case Kind.REFUSED:
            await proxy.refuse()
            await asyncio.sleep(fault.lasts_seconds)
            await proxy.open()
    return injected


async def _trouble_redis(cluster: Cluster, fault: Fault) -> None:
    if fault.kind is Kind.REDIS_KILLED:
        await asyncio.to_thread(cluster.server.stop)
        await asyncio.sleep(fault.lasts_seconds)
        await asyncio.to_thread(cluster.server.start)
    else:
        cluster.server.send(signal.SIGSTOP)
        await asyncio.sleep(fault.lasts_seconds)
        cluster.server.send(signal.SIGCONT)
