"""What the measurement of an inference server says about WORKER_CONCURRENCY. Pure.

Memory is the deployment guide's section 1: what one more request takes, and how many of these fit beside a reserve
of 30 %. Throughput is the knee of the load: what more requests bring beyond it is little. Servers that
take all their memory at the start (vLLM, llama.cpp) show no growth, and then the knee alone decides.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from core.events import Ordinal

RESERVE_PERCENT: Final = 30  # The guide's.
NOISE_BYTES: Final = 64 * 2**20  # CUDA's workspaces come and go in tens of MiB, whatever the load.
_RISE: Final = 1.05  # Less is within what one measurement differs from the next.
_FLAT_FACTOR: Final = 4  # A GPU's throughput has plateaus between sizes of its batches.
_NEARLY_ALL: Final = 0.9


class Device(Struct, frozen=True, kw_only=True):
    """A GPU before the load came."""

    index: int
    name: str
    total_bytes: int
    base_bytes: int  # In use at rest, the model loaded.


class Level(Struct, frozen=True, kw_only=True):
    """What was seen with so many requests at once, all the time."""

    concurrency: int
    answers: int  # That ended.
    seconds: float
    tokens_per_second: float  # Of all requests together.
    first_token_ms: float  # From a request to its first output, the median.
    first_token_p95_ms: float
    used_bytes: tuple[int, ...] = ()  # The most, of each device.


class MemoryFit(Struct, frozen=True, kw_only=True):
    """How many requests fit into the device that is filled first."""

    gpu: int
    total_bytes: int
    base_bytes: int
    loaded_bytes: int  # With one request.
    per_request_bytes: int
    by_guide: int  # (total x 0.7) / per request: the guide's figure.
    beside_base: int  # (total x 0.7 - base) / per request.


class Recommendation(Struct, frozen=True, kw_only=True):
    """What `auto` and `respool doctor` read of the report of a measurement."""

    at: datetime
    upstream: str  # As workers name it.
    model: str
    recommended: Ordinal


class Calibration(Recommendation, frozen=True, kw_only=True):
    """The report of a measurement."""

    knee: int
    memory: MemoryFit | None  # None: no device, or none that filled.
    devices: tuple[Device, ...]
    levels: tuple[Level, ...]
    notes: tuple[str, ...]  # What to know about it.


def usable_bytes(total_bytes: int) -> int:
    """What the reserve leaves of a device's memory."""
    return total_bytes * (100 - RESERVE_PERCENT) // 100


def most_by_guide(total_bytes: int, per_request_bytes: int) -> int:
    """The guide's step 6: how many requests fit, as if the base took nothing; never below 1."""
    return max(1, usable_bytes(total_bytes) // per_request_bytes)


def most_beside_base(total_bytes: int, base_bytes: int, per_request_bytes: int) -> int:
    """How many requests fit into what base and reserve leave; never below 1."""
    return max(1, (usable_bytes(total_bytes) - base_bytes) // per_request_bytes)


def memory_fit(devices: Sequence[Device], levels: Sequence[Level]) -> MemoryFit | None:
    """How many requests fit into memory; None if no device filled by more than noise.

    Of several devices that fill, as when a model is split over them, the one that holds the fewest.
    """
    fits = [
        _fit_of(device, [(level.concurrency, level.used_bytes[at]) for level in levels])
        for at, device in enumerate(devices)
        if max((level.used_bytes[at] for level in levels), default=0) - device.base_bytes
        > NOISE_BYTES
    ]
    return min(fits, key=lambda fit: (fit.beside_base, fit.by_guide), default=None)


def _fit_of(device: Device, used: Sequence[tuple[int, int]]) -> MemoryFit:
    """What a request takes is what the first one took, or each of the later ones if that is more.

    A server that keeps what it once took (PyTorch's allocator) shows the first request in its base already, and
    only those after it as growth.
    """
    (_, loaded), (most, filled) = used[0], used[-1]
    first = loaded - device.base_bytes
    later = (filled - loaded) // (most - 1) if most > 1 else 0
    per_request = max(first, later, 1)
    return MemoryFit(
        gpu=device.index,
        total_bytes=device.total_bytes,
        base_bytes=device.base_bytes,
        loaded_bytes=loaded,
        per_request_bytes=per_request,
        by_guide=most_by_guide(device.total_bytes, per_request),
        beside_base=most_beside_base(device.total_bytes, device.base_bytes, per_request),
    )


def knee(levels: Sequence[Level]) -> int:
    """The fewest requests at once that bring 90 % of the most tokens a second.

    A job that is not sent yet waits in the queue, so what counts for everybody is how fast the queue empties; but
    beyond this a request waits in the server instead, where it has a slot and its time limit runs. Kleinrock's power
    (throughput over response time, 1979) would be at its maximum earlier: it counts the time in the server alone, and
    gives away tokens for it. The distance from the chord (Kneedle, 2011) has no maximum where a server just goes on
    to scale.
    """
    most = max(level.tokens_per_second for level in levels)
    enough = [one for one in levels if one.tokens_per_second >= most * _NEARLY_ALL]
    return min(level.concurrency for level in enough)


def recommended(levels: Sequence[Level], fit: MemoryFit | None) -> int:
    """The knee, or what fits into memory if that is less. The base stays where it is, so it counts."""
    at = knee(levels)
    return at if fit is None else min(at, fit.beside_base)


def next_level(devices: Sequence[Device], levels: Sequence[Level], most: int) -> int | None:
    """How many requests at once to try next, by half or a third more each time; None when it is enough.

    Never more than memory has shown room for: the server is somebody's. And no more once four times the load brought
    no more tokens.
    """
    if not levels:
        return 1
    fit = memory_fit(devices, levels)
    limit = most if fit is None else min(most, fit.beside_base)
    now = levels[-1].concurrency
    if now >= limit or _is_flat(levels):
        return None
    return min(_step(now), limit)


def levels_up_to(most: int) -> list[int]:
    """All levels that there may be."""
    found = [1]
    while found[-1] < most:
        found.append(min(_step(found[-1]), most))
    return found


def _is_flat(levels: Sequence[Level]) -> bool:
    much = levels[-1].concurrency
    few = [one.tokens_per_second for one in levels if one.concurrency * _FLAT_FACTOR <= much]
    more = [one.tokens_per_second for one in levels if one.concurrency * _FLAT_FACTOR > much]
    return bool(few) and max(more) <= max(few) * _RISE


def _step(now: int) -> int:
    """1, 2, 3, 4, 6, 8, 12, 16, 24, 32, …"""
    is_power_of_two = now & (now - 1) == 0
    return now + max(1, now // 2 if is_power_of_two else now // 3)
