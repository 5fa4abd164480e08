"""What the log's beginning was moved to, as the store knows it. `projections/archive/` has it on disk."""

from collections.abc import AsyncGenerator
from typing import Any, Protocol

from core.errors import StoreError


class ArchiveError(StoreError):
    """An archive does not have what it should; the message names what, and where.

    `last` is the last number of the log that it is about, where that is known.
    """

    last: int | None = None


class Archive(Protocol):
    """The entries of logs that were archived."""

    def is_in(self, shard: int, edition: int) -> None:
        """Hear how often segments of a shard were written anew: what was read before that is not taken for granted."""

    def entries(
        self, incarnation: str, shard: int, after: int, until: int
    ) -> AsyncGenerator[list[Any], None]:
        """Raw entries as the log had them, in pages: those whose number is above one, up to another.

        Numbers that the log itself did not have are passed over. Raises ArchiveError for what is missing,
        was altered, or cannot be read.
        """
