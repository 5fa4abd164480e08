"""The guide's steps on a live inference server: at rest, with one request, and with more and more."""

from collections.abc import Callable, Mapping
from contextlib import aclosing
from itertools import count
from typing import Final

from msgspec import Struct

from cli.calibrate.load import measure
from cli.calibrate.memory import Look, at_rest
from cli.calibrate.question import CalibrationError, Question
from consumers.upstream.base import Upstream, UpstreamError
from core.calibration import (
    NOISE_BYTES,
    RESERVE_PERCENT,
    Device,
    Level,
    MemoryFit,
    memory_fit,
    next_level,
    usable_bytes,
)

_MIB: Final = 2**20


class Measured(Struct, frozen=True):
    """What was seen, and what to know about it."""

    devices: tuple[Device, ...]
    levels: tuple[Level, ...]
    memory: MemoryFit | None
    notes: tuple[str, ...]


async def measured(
    upstream: Upstream,
    question: Question,
    names: Mapping[int, str],
    look: Look,
    seconds: float,
    most: int,
    tell: Callable[[Level], None],
) -> Measured:
    """Raise the load from one request, up to `most`, for so many seconds each. Raises CalibrationError.

    `names` are the devices', by their indices, and `look` says how full they are.
    """
    numbers = count(1)
    try:
        await _answer(upstream, question, next(numbers))  # Loads the model, if it has to be.
    except UpstreamError as error:
        raise CalibrationError(f"a single request fails: {error}") from error
    devices = await _devices(names, look)
    levels: list[Level] = []
    notes: list[str] = []
    while (now := next_level(devices, levels, most)) is not None:
        try:
            level = await measure(upstream, question, numbers, now, seconds, devices, look)
        except UpstreamError as error:
            if not levels:
                raise CalibrationError(f"requests one after the other fail: {error}") from error
            notes.append(f"{now} at once fail, so it was not raised further: {error}")
            break
        if not level.tokens_per_second:
            raise CalibrationError(
                f"{question.model} answers nothing; give it a request that it answers at length: --request FILE"
            )
        levels.append(level)
        tell(level)
    fit = memory_fit(devices, levels)
    notes += _about_memory(devices, fit)
    return Measured(devices, tuple(levels), fit, tuple(notes))


async def _answer(upstream: Upstream, question: Question, number: int) -> None:
    async with aclosing(upstream.stream(question.call(number))) as items:
        async for _ in items:
            pass


async def _devices(names: Mapping[int, str], look: Look) -> tuple[Device, ...]:
    return tuple(
        Device(
            index=one.index,
            name=names.get(one.index, ""),
            total_bytes=one.total_bytes,
            base_bytes=one.used_bytes,
        )
        for one in await at_rest(look)
    )


def _about_memory(devices: tuple[Device, ...], fit: MemoryFit | None) -> list[str]:
    if not devices:
        return ["no NVIDIA GPU is seen here: the figure is of throughput alone"]
    if fit is None:
        grew = f"no GPU here filled by more than {NOISE_BYTES // _MIB} MiB under load"
        why = "the server took its memory at the start, as vLLM and llama.cpp do, or is elsewhere"
        return [f"{grew}: {why}. The figure is of throughput alone"]
    if fit.base_bytes + fit.per_request_bytes > usable_bytes(fit.total_bytes):
        return [
            f"base and one request leave less than {RESERVE_PERCENT} % of the GPU: there is no reserve"
        ]
    return []
