"""Job ids: sortable by time, carrying their shard, safe in a URL and in a Redis key.

Nineteen characters of Crockford's base 32 (lower case, without i, l, o and u): nine of milliseconds
since 1970, eight random, two for the shard. The time is only there to sort and to read; nothing is
decided by it, as it comes from a host's clock.
"""

from functools import lru_cache
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_CHARS: Final = 9
_RANDOM_CHARS: Final = 8
_SHARD_CHARS: Final = 2
_LENGTH: Final = _TIME_CHARS + _RANDOM_CHARS + _SHARD_CHARS

SHARDS_MAX: Final = 32**_SHARD_CHARS
RANDOM_BITS: Final = 5 * _RANDOM_CHARS

_PAIRS: Final = tuple(
    high + low for high in _ALPHABET for low in _ALPHABET
)  # Two digits at a time.
_SHARD_OF: Final = {pair: shard for shard, pair in enumerate(_PAIRS)}


def job_id(now_ms: int, random: int, shard: int) -> str:
    """A new id from the time, `RANDOM_BITS` random bits and the shard that the job will live on."""
    pairs = _PAIRS
    return (
        _time_digits(now_ms)
        + pairs[random >> 30 & 1023]
        + pairs[random >> 20 & 1023]
        + pairs[random >> 10 & 1023]
        + pairs[random & 1023]
        + pairs[shard]
    )


def is_job_id(text: str) -> bool:
    """Say whether `text` has the form of a job id."""
    return len(text) == _LENGTH and not text.strip(_ALPHABET)


def made_ms(job_id: str) -> int:
    """When an id was made, by the clock of the host that made it."""
    made = 0
    for digit in job_id[:_TIME_CHARS]:
        made = made << 5 | _ALPHABET.index(digit)
    return made


def shard_of(job_id: str) -> int:
    """The shard that a job lives on."""
    return _SHARD_OF[job_id[-_SHARD_CHARS:]]


@lru_cache(maxsize=1)
def _time_digits(now_ms: int) -> str:
    return "".join(_ALPHABET[now_ms >> 5 * place & 31] for place in reversed(range(_TIME_CHARS)))
