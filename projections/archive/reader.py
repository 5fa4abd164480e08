"""Reading an archive: the entries of a log by their numbers, whatever segments they are in.

Segments follow each other, but two may overlap: an archiver that was killed before it could say what it had
written leaves a segment that the next one may have written anew, with more in it. They agree, as a log is
only appended to; so whoever reads takes from each what he does not have yet.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from msgspec import Struct

from core.archive import ArchiveError
from projections.archive.files import Files
from projections.archive.segment import Name, Segment, number_of


class Altered(ArchiveError):
    """A segment that is not what was written; the last number that it had."""

    def __init__(self, message: str, name: Name) -> None:
        super().__init__(message)
        self.last = name.last


class Lacking(ArchiveError):
    """Segments that should be there are not; the last number that they had."""

    def __init__(self, message: str, last: int) -> None:
        super().__init__(message)
        self.last = last


class _Opened(Struct, frozen=True):
    """The segment that was read last, which whoever reads on will ask for next."""

    path: str
    segment: Segment


def folder_of(incarnation: str, shard: int) -> str:
    """Where a shard's segments lie. A store that was emptied and made anew is another one."""
    return f"{incarnation}/{shard}"


class SegmentArchive:
    """The archives of stores at one place: `core.archive.Archive`."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._listed: dict[str, list[Name]] = {}
        self._opened: _Opened | None = None
        self._editions: dict[int, int] = {}

    async def names(self, incarnation: str, shard: int) -> list[Name]:
        """All segments of a shard, as they follow each other. Raises ArchiveError."""
        folder = folder_of(incarnation, shard)
        found = await asyncio.to_thread(self.files.names, folder)
        names = sorted(name for text in found if (name := Name.parse(text)) is not None)
        self._listed[folder] = names
        return names

    async def open(self, incarnation: str, shard: int, name: Name) -> Segment:
        """A segment that is whole, and is the one that it should be. Raises Altered, ArchiveError."""
        path = f"{folder_of(incarnation, shard)}/{name}"
        if self._opened is not None and self._opened.path == path:
            return self._opened.segment
        segment = await asyncio.to_thread(self._read, path, name)
        said = segment.header
        if (said.incarnation, said.shard, said.name) != (incarnation, shard, name):
            where = self.files.where(path)
            what = f"{said.name} of shard {said.shard} of store {said.incarnation}"
            raise Altered(f"{where} is another segment than it is called: {what}", name)
        self._opened = _Opened(path, segment)
        return segment

    def _read(self, path: str, name: Name) -> Segment:
        body = self.files.get(path)
        try:
            return Segment(self.files.where(path), body)
        except ArchiveError as error:
            raise Altered(str(error), name) from error

    async def entries(
        self, incarnation: str, shard: int, after: int, until: int
    ) -> AsyncGenerator[list[Any], None]:
        """The entries above one number, up to another: `core.archive.Archive`. Raises Altered."""
        while after < until:
            name = await self._with(incarnation, shard, after)
            if name is None:
                raise self._lacks(incarnation, shard, after + 1, until)
            segment = await self.open(incarnation, shard, name)
            if segment.header.after.sequence > after:
                missing = min(until, segment.header.after.sequence)
                raise self._lacks(incarnation, shard, after + 1, missing)
            for page in segment.pages(after):
                after = number_of(page[-1])
                some = page if after <= until else [raw for raw in page if number_of(raw) <= until]
                if some:
                    yield some
                if after >= until:
                    return
            after = max(after, name.last)

    def _lacks(self, incarnation: str, shard: int, first: int, last: int) -> Lacking:
        where = self.files.where(folder_of(incarnation, shard))
        return Lacking(
            f"{where} lacks the segments with number {first} to {last}: put them back", last
        )

    async def _with(self, incarnation: str, shard: int, after: int) -> Name | None:
        """The segment that has what comes after a number; of several the one that goes on for longest."""
        known = self._listed.get(folder_of(incarnation, shard), [])
        found = _next(known, after)
        if found is None or found.first > after + 1:  # There may be more by now.
            found = _next(await self.names(incarnation, shard), after)
        return found

    def is_in(self, shard: int, edition: int) -> None:
        """`core.archive.Archive`."""
        if self._editions.get(shard) != edition:
            self.forget()
            self._editions[shard] = edition

    def forget(self) -> None:
        """Take nothing for granted that was read: a segment was written anew."""
        self._listed, self._opened = {}, None


def _next(names: list[Name], after: int) -> Name | None:
    ahead = [name for name in names if name.last > after]
    if not ahead:
        return None
    first = ahead[0]
    begun = [name for name in ahead if name.first <= max(after + 1, first.first)]
    return max(begun, key=lambda name: name.last)
