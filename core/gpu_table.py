"""The deployment guide's table of GPUs: what to begin with where nobody has measured. Pure."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from core.events import Gpu

_GIB: Final = 2**30
_OF_NOMINAL: Final = 0.9  # A card says a little less than it is sold with.


class Row(Struct, frozen=True):
    """A line of the table."""

    gpu: str
    chip: str  # Stands in the name that NVML gives.
    devices: int
    memory_gib: int  # Of each.
    models: str  # Parameters of the models that it is meant for.
    least: int
    most: int


GUIDE: Final = (
    Row("RTX 3090", "RTX 3090", 1, 24, "7B-13B", 3, 4),
    Row("RTX 4090", "RTX 4090", 1, 24, "7B-13B", 3, 4),
    Row("A100 40GB", "A100", 1, 40, "20B-30B", 2, 3),
    Row("A100 80GB", "A100", 1, 80, "70B", 1, 2),
    Row("H100", "H100", 1, 80, "70B-120B", 1, 2),
    Row("2x A100 80GB", "A100", 2, 80, "120B+", 2, 3),
)


def row_of(gpus: Sequence[Gpu]) -> Row | None:
    """The row for a machine with these GPUs: of those that it has the devices for, the one with the most memory."""
    fitting = [row for row in GUIDE if sum(_is(gpu, row) for gpu in gpus) >= row.devices]
    return max(fitting, key=lambda row: row.devices * row.memory_gib, default=None)


def _is(gpu: Gpu, row: Row) -> bool:
    return row.chip in gpu.name and gpu.memory_bytes >= row.memory_gib * _GIB * _OF_NOMINAL
