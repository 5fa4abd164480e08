"""What an API key may ask for a minute, as buckets that fill evenly. Pure; `core/lua/append.lua` keeps them.

Requests are paid for when a job is accepted. Tokens are paid for afterwards, when the inference server has
said how many there were: a bucket may then come to lack more than it holds, and nothing is accepted until
it has a token again. So a job that takes more than a minute's worth is run, and paid off, rather than
refused for ever.

With several shards each has its share of every limit, rounded up, and knows nothing of the others.
"""

from collections.abc import Sequence
from math import ceil
from typing import Final

from msgspec import Struct

from core.access import KeyLimits

REQUESTS: Final = "requests"
TOKENS: Final = "tokens"
FILLS_IN_MS: Final = 60_000  # As the Lua has it.
_ROUNDED: Final = 0.01  # Of a whole request or token.


class Level(Struct, frozen=True):
    """How full a bucket is."""

    limit: int  # What a minute allows.
    holds: int  # This shard's share of it.
    lacks_ms: float  # Until it is full.

    @property
    def remaining(self) -> int:
        """What is left of `limit`, if the other shards have as much of it left as this one."""
        return max(0, int(self.limit * (1 - self.lacks_ms / FILLS_IN_MS) + _ROUNDED))

    @property
    def wait_ms(self) -> int:
        """How long until one more can be taken; 0: at once."""
        return max(0, ceil(self.lacks_ms + FILLS_IN_MS / self.holds - FILLS_IN_MS))


class Levels(Struct, frozen=True):
    """What is left to an API key; None: it is not held to any."""

    requests: Level | None = None
    tokens: Level | None = None


FREE: Final = Levels()


def share(limit: int, shards: int) -> int:
    """What one shard may have of a limit. All of them together exceed it by rounding alone."""
    return ceil(limit / shards)


def buckets_of(limits: KeyLimits, shards: int) -> tuple[tuple[str, int, int], ...]:
    """The buckets that a submission is held to: the name of each, what it holds, what is taken at once."""
    asked = (
        (REQUESTS, limits.requests_per_minute, 1),
        (TOKENS, limits.tokens_per_minute, 0),
    )
    return tuple(
        (name, share(limit, shards), amount) for name, limit, amount in asked if limit is not None
    )


def levels(limits: KeyLimits, shards: int, lacks: Sequence[bytes]) -> Levels:
    """The levels that an append answered with, one for each of `buckets_of`."""
    left = iter(lacks)

    def level(limit: int | None) -> Level | None:
        return None if limit is None else Level(limit, share(limit, shards), float(next(left)))

    return Levels(level(limits.requests_per_minute), level(limits.tokens_per_minute))
