"""Tables, on a terminal and into a pipe."""

import sys
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPED_WIDTH: Final = 250


def console() -> Console:
    """As wide as it takes where no terminal says how wide it is."""
    return Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def new_table(*columns: str) -> Table:
    """An empty table; the names of columns of numbers begin with `#`."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in columns:
        is_number = column.startswith("#")
        table.add_column(column.lstrip("#"), justify="right" if is_number else "left")
    return table


def add_row(table: Table, *cells: Any) -> None:
    """Cells as they are: a name may look like rich's markup."""
    table.add_row(*(Text("" if cell is None else str(cell)) for cell in cells))
