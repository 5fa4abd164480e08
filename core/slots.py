"""Which node of a Redis Cluster has which key: slots, as Redis computes them and as CLUSTER SLOTS tells them. Pure."""

from binascii import crc_hqx
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

SLOTS: Final = 16_384
_OURS: Final = "respool:{"  # What every key of ours begins with; a hash tag follows.
_OURS_BYTES: Final = _OURS.encode()


class Address(Struct, frozen=True, order=True):
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Owners(Struct, frozen=True):
    """The primaries, and which slots each has, as somebody of the cluster knows it."""

    firsts: tuple[int, ...]  # The first slot of each range, in order.
    lasts: tuple[int, ...]
    of: tuple[Address, ...]

    def owner(self, slot: int) -> Address | None:
        """Who has a slot; None if nobody does."""
        at = bisect_right(self.firsts, slot) - 1
        return self.of[at] if at >= 0 and slot <= self.lasts[at] else None

    @property
    def primaries(self) -> tuple[Address, ...]:
        """All that have slots."""
        return tuple(sorted(set(self.of)))


def owners_in(reply: Sequence[Any], asked: Address) -> Owners:
    """Read the reply to CLUSTER SLOTS, which `asked` gave: a node without a name is that one itself."""
    ranges = sorted((int(first), int(last), node) for first, last, node, *_ in reply)
    return Owners(
        tuple(first for first, _, _ in ranges),
        tuple(last for _, last, _ in ranges),
        tuple(_address(node, asked) for _, _, node in ranges),
    )


def _address(node: Sequence[Any], asked: Address) -> Address:
    host = node[0].decode() if node[0] else ""
    return Address(host if host not in ("", "?") else asked.host, int(node[1]))


def slot_of(key: str | bytes) -> int:
    """The slot of one of our keys: of the text in its braces, by CRC-16/XMODEM (Redis Cluster's specification)."""
    text = key if isinstance(key, str) else key.decode()
    return _slot_of_tag(text[len(_OURS) : text.index("}")])


@lru_cache(maxsize=4_096)
def _slot_of_tag(tag: str) -> int:
    return crc_hqx(tag.encode(), 0) % SLOTS


def key_in(command: Sequence[Any]) -> str | bytes | None:
    """The first key of a command; None if it has none, and so is any node's to answer."""
    for word in command[1:]:
        if isinstance(word, str) and word.startswith(_OURS):
            return word
        if isinstance(word, bytes) and word.startswith(_OURS_BYTES):
            return word
    return None
