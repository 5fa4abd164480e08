"""Other releases than the next: one with other projections, and one from before there were views."""

from typing import Final

from core import functions
from projections import rows
from tests.releases.next import Change

OTHER_VIEWS: Final = (
    Change("projections/rows.py", f"VERSION = {rows.VERSION}\n", f"VERSION = {rows.VERSION + 1}\n"),
)

# It knows one migration, has a function library of its own, and keeps no views.
WITHOUT_VIEWS: Final = (
    Change(
        "core/functions.py",
        f"VERSION: Final = {functions.VERSION}\n",
        f"VERSION: Final = {functions.VERSION - 1}\n",
    ),
    Change(
        "migrations/plan.py",
        "    Migration(2, m0002_views.NAME, m0002_views.apply, m0002_views.undo, schema=1),\n",
        "",
    ),
    Change(
        "migrations/plan.py",
        "return needed if views is None else [*needed, views]",
        "return needed",
    ),
)
