"""The keys of a view: those of one shard in one generation, beside the log that they are folded from."""

from msgspec import Struct

VIEWS = (
    "respool:{0}:views"  # A hash: which generation serves which fingerprint, and which is built.
)
BELL_NAME = "views"  # Rung when a view has moved on.


class ViewKeys(Struct, frozen=True):
    """A shard's part of a generation."""

    shard: int
    generation: int

    @property
    def prefix(self) -> str:
        return f"respool:{{{self.shard}}}:view:{self.generation}:"

    @property
    def checkpoint(self) -> str:
        """A hash: sequence and entry of the last log entry that is in the view, and its horizon."""
        return f"{self.prefix}checkpoint"

    @property
    def rows(self) -> str:
        """A hash: each subject's row."""
        return f"{self.prefix}rows"

    @property
    def names(self) -> str:
        """A set: the names of all sets and counters there are, so that nobody has to scan for keys."""
        return f"{self.prefix}names"

    @property
    def parked(self) -> str:
        """A hash: subjects that cannot be folded, and why."""
        return f"{self.prefix}parked"

    def named(self, name: str) -> str:
        """A set or a counter."""
        return f"{self.prefix}{name}"
