"""What jobs have in Redis beside the log: entries that were carried over from it, and chunks of output."""

from collections.abc import Sequence
from typing import Final

import msgspec

from core import functions
from core.keys import ShardKeys
from core.redaction import redacted
from core.store import EventStore

_TOGETHER: Final = 100
_decoder: Final = msgspec.msgpack.Decoder(list[str])  # As Lua's `cmsgpack.pack` has it.


async def forget_kept(store: EventStore, keys: ShardKeys, jobs: Sequence[str]) -> None:
    """Take the content out of what was carried over, and delete the chunks. Raises StoreUnavailable."""
    for first in range(0, len(jobs), _TOGETHER):
        some = jobs[first : first + _TOGETHER]
        carried = await functions.pipeline(
            store.client, [("HGETALL", keys.carried(job)) for job in some]
        )
        bodies: list[bytes] = []
        asked = [_left_of(dict(entries), bodies) for entries in carried]
        names = [name for job in some for name in (keys.carried(job), keys.output(job))]
        await functions.call(store.client, "forget_kept", names, {"jobs": asked}, bodies)


def _left_of(carried: dict[bytes, bytes], bodies: list[bytes]) -> list[tuple[str, int]]:
    """The entries that have content, each with where in ARGV there is what is left of it."""
    asked = []
    for entry, packed in carried.items():
        flat = _decoder.decode(packed)
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        data = fields["d"].encode()
        left = redacted(fields["t"].encode(), data)
        if left is not data:
            bodies.append(left)
            asked.append((entry.decode(), len(bodies) + 1))  # ARGV[1] is the ask.
    return asked
