"""A segment: a closed run of a log's entries, as one file that says what it has and whether it is whole.

    respool-archive 1 SHA256    of all that follows this line, in hexadecimal
    {…}                         a Header, as JSON
    …                           Zstandard (RFC 8878): pages, each its last number (8 bytes) and its length (4),
                                big-endian, then so many bytes of MessagePack: [[id, {field: value}], …]

Entries are byte for byte what the log had, fields that this release does not know included. So
`tail -n +2 FILE | sha256sum` says whether a file is whole, without this program. Pure.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
import zstandard
from msgspec import Struct

from core.archive import ArchiveError

MAGIC: Final = b"respool-archive 1 "
_LEVEL: Final = 9  # An event is read far more seldom than it is kept.
_PAGE: Final = struct.Struct(">QI")
_CHUNK_BYTES: Final = 256 * 1024

RawEntry = Any  # [id, {field: value}], in bytes, as Redis says it.

_decoder: Final = msgspec.msgpack.Decoder(list[tuple[bytes, dict[bytes, bytes]]])
_encoder: Final = msgspec.msgpack.Encoder()


class Place(Struct, frozen=True):
    """An entry's number, and its id."""

    sequence: int
    entry: str


class Header(Struct, frozen=True, kw_only=True):
    """What a segment says of itself."""

    incarnation: str  # Of the store that it is of.
    shard: int
    after: Place  # The log's entry before the first; so a file that is missing between two can be told.
    first: Place
    last: Place
    entries: int  # Fewer than the numbers between: the log itself lacked some.
    bytes: int  # Of all pages, uncompressed.

    @property
    def name(self) -> "Name":
        """The name of the file that it should be in."""
        first, last = self.first, self.last
        return Name(first.sequence, last.sequence, first.entry, last.entry)


class Name(Struct, frozen=True, order=True):
    """A segment's name, which says what is in it."""

    first: int
    last: int
    first_entry: str
    last_entry: str

    def __str__(self) -> str:
        return f"{self.first:016}-{self.last:016}_{self.first_entry}_{self.last_entry}.segment"

    @staticmethod
    def parse(text: str) -> "Name | None":
        """The reverse of str(); None for what is no segment's name."""
        found = _NAME.fullmatch(text)
        if found is None:
            return None
        first, last, first_entry, last_entry = found.groups()
        return Name(int(first), int(last), first_entry, last_entry)


_NAME: Final = re.compile(r"(\d{16})-(\d{16})_(\d+-\d+)_(\d+-\d+)\.segment")


def number_of(raw: RawEntry) -> int:
    """A raw entry's number in its log."""
    return int(raw[1][b"q"])


class Writer:
    """A segment in the making, which holds what it has compressed so far."""

    def __init__(self, incarnation: str, shard: int, after: Place) -> None:
        self._incarnation = incarnation
        self._shard = shard
        self._after = after
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
        self._parts: list[bytes] = []
        self._first: Place | None = None
        self._last: Place | None = None
        self.entries = 0
        self.bytes = 0

    def add(self, raws: Sequence[RawEntry]) -> None:
        """Add the entries that come next."""
        if not raws:
            return
        packed = _encoder.encode(raws)
        self._last = _place_of(raws[-1])
        self._first = self._first or _place_of(raws[0])
        self._parts.append(self._zstd.compress(_PAGE.pack(self._last.sequence, len(packed))))
        self._parts.append(self._zstd.compress(packed))
        self.entries += len(raws)
        self.bytes += _PAGE.size + len(packed)

    def finish(self) -> tuple[Name, bytes]:
        """The segment, and its name; at least one entry was added."""
        assert self._first is not None
        assert self._last is not None
        header = Header(
            incarnation=self._incarnation,
            shard=self._shard,
            after=self._after,
            first=self._first,
            last=self._last,
            entries=self.entries,
            bytes=self.bytes,
        )
        rest = b"".join((msgspec.json.encode(header), b"\n", *self._parts, self._zstd.flush()))
        return header.name, b"%b%b\n%b" % (MAGIC, sha256(rest).hexdigest().encode(), rest)


def _place_of(raw: RawEntry) -> Place:
    return Place(number_of(raw), raw[0].decode())


class Segment:
    """A segment that was read, and is whole."""

    def __init__(self, where: str, body: bytes) -> None:
        """Raises ArchiveError, which names `where`, if it is torn, or was altered."""
        line, _, rest = body.partition(b"\n")
        if not line.startswith(MAGIC):
            raise ArchiveError(f"{where} is no segment of an archive: it begins otherwise")
        if sha256(rest).hexdigest().encode() != line[len(MAGIC) :]:
            raise ArchiveError(
                f"{where} was altered, or its end is missing: its checksum is not that of what it has. "
                "Put a copy of it in its place"
            )
        said, _, self._zstd = rest.partition(b"\n")
        self.header = msgspec.json.decode(said, type=Header)

    def pages(self, after: int = 0) -> Iterator[list[RawEntry]]:
        """The entries above a number, page by page; one page is in memory at a time."""
        for last, packed in _frames(self._zstd):
            if last <= after:
                continue
            raws: list[RawEntry] = list(_decoder.decode(packed))
            yield (
                raws
                if number_of(raws[0]) > after
                else [raw for raw in raws if number_of(raw) > after]
            )


def _frames(compressed: bytes) -> Iterator[tuple[int, bytes]]:
    with zstandard.ZstdDecompressor().stream_reader(compressed) as plain:
        while head := _exactly(plain, _PAGE.size):
            last, length = _PAGE.unpack(head)
            yield last, _exactly(plain, length)


def _exactly(plain: Any, length: int) -> bytes:
    parts: list[bytes] = []
    left = length
    while left and (part := plain.read(min(left, _CHUNK_BYTES))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
