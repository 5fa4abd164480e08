"""Measurements, as short as tests want them."""

from collections.abc import Sequence

from core.calibration import Device, Level
from tests.gpus.nvml import GIB


def a_level(concurrency: int, tokens_per_second: float = 100.0, *used_gib: float) -> Level:
    """What was seen with so many requests at once; memory in GiB."""
    return Level(
        concurrency=concurrency,
        answers=concurrency,
        seconds=10.0,
        tokens_per_second=tokens_per_second,
        first_token_ms=50.0,
        first_token_p95_ms=80.0,
        used_bytes=tuple(round(one * GIB) for one in used_gib),
    )


def levels(rates: dict[int, float]) -> list[Level]:
    """Levels of a server without a GPU, by requests at once and the tokens a second that they came to."""
    return [a_level(concurrency, rate) for concurrency, rate in rates.items()]


def filling(*used_gib: float, of: Sequence[int] = (1, 2, 3, 4, 6)) -> list[Level]:
    """Levels of a server that scales for ever, and how full its GPU was at each."""
    return [a_level(n, 100.0 * n, used) for n, used in zip(of, used_gib, strict=False)]


def a_device(total_gib: float, base_gib: float, index: int = 0) -> Device:
    return Device(
        index=index,
        name="NVIDIA RTX A4000",
        total_bytes=round(total_gib * GIB),
        base_bytes=round(base_gib * GIB),
    )
