"""A calibration for people: a table, a plot, and the guide's arithmetic."""

from collections.abc import Iterator
from typing import Final

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cli.tables import add_row, new_table
from core.calibration import RESERVE_PERCENT, Calibration, Level, MemoryFit

_GIB: Final = 2**30
_BAR_CELLS: Final = 48
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"  # Unicode's block elements, from U+2588 down.


def print_calibration(console: Console, found: Calibration) -> None:
    """All of it."""
    console.print(Group(_levels(found), Text(), _plot(found), _arithmetic(found)))
    for note in found.notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)


def _levels(found: Calibration) -> Table:
    devices = (f"#GPU {one.index} GiB" for one in found.devices)
    table = new_table(
        "#at once", "#tokens/s", "#each", "#first token ms", "#p95", "#answers", *devices
    )
    for level in found.levels:
        add_row(
            table,
            level.concurrency,
            f"{level.tokens_per_second:,.1f}",
            f"{level.tokens_per_second / level.concurrency:,.1f}",
            f"{level.first_token_ms:,.0f}",
            f"{level.first_token_p95_ms:,.0f}",
            level.answers,
            *(f"{used / _GIB:.2f}" for used in level.used_bytes),
        )
    return table


def _plot(found: Calibration) -> Group:
    """Two bars for each level: how much comes, and how long it takes to begin."""
    return Group(
        *_bars(found, "tokens/s", [level.tokens_per_second for level in found.levels]),
        Text(),
        *_bars(found, "first token, ms", [level.first_token_ms for level in found.levels]),
    )


def _bars(found: Calibration, title: str, values: list[float]) -> Iterator[Text]:
    yield Text(title, style="dim")
    most = max(values) or 1.0
    for level, value in zip(found.levels, values, strict=True):
        line = Text(f"{level.concurrency:>5} ").append(bar(value / most), style="cyan")
        yield line.append(f" {value:,.0f}{_mark(found, level)}")


def bar(share: float) -> str:
    """A bar of some cells, to the eighth of one."""
    eighths = round(share * _BAR_CELLS * 8)
    return _EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _mark(found: Calibration, level: Level) -> str:
    return "  <- knee" if level.concurrency == found.knee else ""


def _arithmetic(found: Calibration) -> Table:
    table = new_table("", "#", "")
    if found.memory is not None:
        for cells in _memory(found.memory):
            add_row(table, *cells)
    last = found.levels[-1].concurrency
    still = (
        ", the last that was tried: there may be more in it (--most)"
        if found.knee == last > 1
        else ""
    )
    add_row(table, "knee", found.knee, f"the fewest with 90 % of the most tokens/s{still}")
    table.add_row(
        Text("WORKER_CONCURRENCY", style="bold"),
        Text(str(found.recommended), style="bold"),
        _why(found),
    )
    return table


def _memory(fit: MemoryFit) -> Iterator[tuple[str, str, str]]:
    total, base = fit.total_bytes / _GIB, fit.base_bytes / _GIB
    each, usable = fit.per_request_bytes / _GIB, (100 - RESERVE_PERCENT) / 100
    yield "base VRAM", f"{base:.2f}", f"GiB of GPU {fit.gpu}, at rest"
    yield "loaded VRAM", f"{fit.loaded_bytes / _GIB:.2f}", "GiB, with one request"
    yield "VRAM per request", f"{each:.2f}", "GiB, the first or each of the later ones"
    yield "total VRAM", f"{total:.2f}", "GiB"
    yield "maximum", str(fit.by_guide), f"the guide's: ({total:.2f} x {usable}) / {each:.2f}"
    spare = f"({total:.2f} x {usable} - {base:.2f}) / {each:.2f}, as the base stays"
    yield "beside the base", str(fit.beside_base), spare


def _why(found: Calibration) -> str:
    if found.memory is None:
        return "the knee"
    if found.memory.beside_base < found.knee:
        return "what fits beside the base"
    return "the knee, which fits into memory"
