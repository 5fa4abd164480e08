"""What a person sees of a calibration."""

from datetime import UTC, datetime
from io import StringIO

from rich.console import Console

from cli.calibrate.shown import bar, print_calibration
from core.calibration import Calibration, knee, memory_fit, recommended
from tests.calibrate.levels import a_device, a_level


def shown(total_gib: float, *used_gib: float) -> list[str]:
    """What is printed of a server with two slots, its lines with single spaces."""
    levels = [
        a_level(n, 50.0 * min(n, 2), used) for n, used in zip((1, 2, 3, 4), used_gib, strict=True)
    ]
    devices = (a_device(total_gib, 8),)
    fit = memory_fit(devices, levels)
    found = Calibration(
        at=datetime(2026, 7, 1, tzinfo=UTC),
        upstream="http://gpu:8000",
        model="llama3.2",
        recommended=recommended(levels, fit),
        knee=knee(levels),
        memory=fit,
        devices=devices,
        levels=tuple(levels),
        notes=("[bold]watch out[/bold]",),
    )
    output = StringIO()
    print_calibration(Console(file=output, width=100), found)
    return [" ".join(line.split()) for line in output.getvalue().splitlines()]


def test_a_line_a_bar_and_a_step_of_the_guide_s_for_each_figure() -> None:
    lines = shown(80, 10, 12, 14, 16)
    assert "2 100.0 50.0 50 80 2 12.00" in lines
    assert f"1 {'█' * 24} 50" in lines
    assert f"2 {'█' * 48} 100 <- knee" in lines
    assert "VRAM per request 2.00 GiB, the first or each of the later ones" in lines
    assert "maximum 28 the guide's: (80.00 x 0.7) / 2.00" in lines
    assert "beside the base 24 (80.00 x 0.7 - 8.00) / 2.00, as the base stays" in lines
    assert "WORKER_CONCURRENCY 2 the knee, which fits into memory" in lines
    assert "note: [bold]watch out[/bold]" in lines


def test_it_says_what_decided() -> None:
    assert "WORKER_CONCURRENCY 1 what fits beside the base" in shown(16, 10, 10, 10, 10)
    flat = shown(16, 8, 8, 8, 8)
    assert "WORKER_CONCURRENCY 2 the knee" in flat
    assert not [line for line in flat if line.startswith("VRAM")]


def test_a_bar_is_as_long_as_its_share_to_an_eighth_of_a_cell() -> None:
    assert [bar(share) for share in (0, 1 / 48, 1.5 / 48, 1)] == ["", "█", "█▌", "█" * 48]
