"""How many requests fit, where the knee is, and how far the load is raised: pure."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.calibration import (
    MemoryFit,
    knee,
    memory_fit,
    most_beside_base,
    most_by_guide,
    next_level,
    recommended,
)
from core.events import Gpu
from core.gpu_table import GUIDE, row_of
from tests.calibrate.levels import a_device, a_level, filling, levels
from tests.gpus.nvml import GIB

GB = 10**9
DOCS = Path(__file__).parents[2] / "docs" / "calibration.md"


def fit(total_gib: float, base_gib: float, *used_gib: float) -> MemoryFit:
    found = memory_fit([a_device(total_gib, base_gib)], filling(*used_gib))
    assert found is not None
    return found


def test_the_guide_s_worked_example_gives_12_and_1() -> None:
    found = fit(32, 8, 20)
    assert found.per_request_bytes == 12 * GIB
    assert (found.by_guide, found.beside_base) == (1, 1)
    assert most_by_guide(32 * GB, 12 * GB) == 1


def test_what_is_in_use_at_rest_is_not_free_for_requests() -> None:
    found = fit(80, 40, 41)
    assert (found.by_guide, found.beside_base) == (56, 16)
    assert recommended(filling(41, 42, 43), found) == 3  # As far as it was measured.
    assert recommended([a_level(64, 6_400.0)], found) == 16


@given(
    total=st.integers(1, 200 * GB),
    base=st.integers(0, 200 * GB),
    per_request=st.integers(1, 200 * GB),
)
def test_a_figure_is_never_below_1_and_keeps_the_reserve_where_more_than_one_fits(
    total: int, base: int, per_request: int
) -> None:
    guide, beside = most_by_guide(total, per_request), most_beside_base(total, base, per_request)
    assert 1 <= beside <= guide
    assert beside == 1 or 10 * (base + beside * per_request) <= 7 * total
    assert guide == 1 or 10 * guide * per_request <= 7 * total


def test_a_request_takes_what_the_first_took_or_what_each_later_one_takes() -> None:
    assert fit(80, 10, 12, 13, 14).per_request_bytes == 2 * GIB
    assert fit(80, 12, 12, 13.5, 15).per_request_bytes == 1.5 * GIB  # It kept what it once took.


def test_growth_within_noise_says_nothing_about_memory() -> None:
    assert memory_fit([a_device(24, 21)], filling(21.01, 21.03, 21.05)) is None
    assert memory_fit([], levels({1: 10.0})) is None
    assert recommended(filling(21.01, 21.03, 21.05), None) == 3


def test_of_several_gpus_those_that_fill_count_and_the_fullest_decides() -> None:
    devices = [a_device(80, 1, 0), a_device(80, 40, 1), a_device(80, 50, 2)]
    found = memory_fit(devices, [a_level(1, 100.0, 1, 42, 52), a_level(2, 200.0, 1, 44, 54)])
    assert found is not None
    assert (found.gpu, found.beside_base) == (2, 3)


@pytest.mark.parametrize(
    ("rates", "where"),
    [
        ({1: 50, 2: 100, 4: 200, 8: 400, 16: 410, 32: 405}, 8),  # Eight slots; the rest wait.
        ({1: 50, 2: 100, 4: 200}, 4),  # It never came to its knee.
        ({1: 50, 2: 52, 4: 51}, 1),
        ({1: 55, 2: 60, 3: 61, 4: 82, 6: 80, 8: 79}, 4),
        ({1: 84, 4: 119, 16: 207}, 16),
        ({1: 0.0, 2: 0.0}, 1),
    ],
)
def test_the_knee_is_the_fewest_requests_with_nearly_all_the_tokens_that_there_are(
    rates: dict[int, float], where: int
) -> None:
    assert knee(levels(rates)) == where


@given(st.integers(1, 100), st.integers(1, 200))
def test_the_knee_of_a_server_with_so_many_slots_is_as_many_however_far_it_was_raised(
    slots: int, most: int
) -> None:
    rates = {n: 30.0 * min(n, slots) for n in range(1, most + 1)}
    reached = min(slots, most)
    assert reached * 0.9 <= knee(levels(rates)) <= reached


def raised(rate_at: dict[int, float] | None = None, most: int = 32) -> list[int]:
    """The levels that a server is measured at, which scales for ever unless it is said."""
    seen: dict[int, float] = {}
    while (now := next_level([], levels(seen), most)) is not None:
        seen[now] = 100.0 * now if rate_at is None else rate_at.get(now, max(rate_at.values()))
    return list(seen)


def test_the_load_is_raised_by_a_half_or_a_third_up_to_the_limit() -> None:
    assert raised() == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    assert raised(most=5) == [1, 2, 3, 4, 5]
    assert raised(most=1) == [1]


def test_it_is_raised_no_more_once_four_times_the_load_brought_nothing() -> None:
    assert raised({1: 100}) == [1, 2, 3, 4]
    assert raised({1: 100, 2: 200, 3: 201}) == [1, 2, 3, 4, 6, 8]
    assert raised({1: 0.0}) == [1, 2, 3, 4]


def test_a_plateau_between_two_sizes_of_a_gpu_s_batches_is_no_end() -> None:
    seen = {1: 176.0, 2: 297.0, 3: 324.0, 4: 381.0, 6: 384.0, 8: 378.0, 12: 619.0, 16: 714.0}
    assert raised(seen | {24: 700.0}) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]


def test_it_is_never_raised_beyond_what_fits_into_memory() -> None:
    device = a_device(32, 8)
    assert next_level([device], filling(20), most=32) is None
    assert next_level([device], filling(10), most=32) == 2
    assert next_level([device], filling(10, 12, 14, 16, of=(1, 2, 3, 4)), most=32) == 6
    assert next_level([device], filling(10, 12, 14, 16, 20), most=32) == 7  # 22.4 GiB are usable.


def gpu(name: str, memory_gib: float, index: int = 0) -> Gpu:
    return Gpu(index, name, round(memory_gib * GIB))


@pytest.mark.parametrize(
    ("gpus", "row"),
    [
        ([gpu("NVIDIA GeForce RTX 3090", 24)], "RTX 3090"),
        ([gpu("NVIDIA GeForce RTX 4090", 23.99)], "RTX 4090"),
        ([gpu("NVIDIA A100-SXM4-40GB", 40)], "A100 40GB"),
        ([gpu("NVIDIA A100 80GB PCIe", 80)], "A100 80GB"),
        ([gpu("NVIDIA H100 80GB HBM3", 79.6)], "H100"),
        ([gpu("NVIDIA A100-SXM4-80GB", 80, n) for n in range(2)], "2x A100 80GB"),
        ([gpu("NVIDIA A100-PCIE-40GB", 40, n) for n in range(2)], "A100 40GB"),
        ([gpu("NVIDIA GeForce RTX 4090 Laptop GPU", 16)], None),
        ([gpu("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4.75)], None),
        ([gpu("NVIDIA RTX A4000", 16)], None),
        ([], None),
    ],
)
def test_a_machine_has_the_row_of_its_gpus(gpus: list[Gpu], row: str | None) -> None:
    found = row_of(gpus)
    assert (None if found is None else found.gpu) == row


def test_the_table_is_the_one_in_the_docs() -> None:
    shown = re.findall(
        r"^\| ([^|]+) \| (\d+) GB \| ([^|]+) \| (\d)-(\d) \|$",
        DOCS.read_text("utf-8"),
        re.MULTILINE,
    )
    assert shown == [
        (row.gpu, str(row.devices * row.memory_gib), row.models, str(row.least), str(row.most))
        for row in GUIDE
    ]
