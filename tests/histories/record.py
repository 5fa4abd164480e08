"""Records the lives that have no golden history yet, on a real server, and never one again.

python -m tests.histories.record
"""

import asyncio
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from core.records import Bounds
from core.redis import connect
from core.store import EventStore
from migrations.runner import migrate
from tests.histories.history import DIGESTS, FOLDER, History, folded, log_entries
from tests.histories.lives import LIVES, Life
from tests.servers import running, valkey


def path_of(life: Life) -> Path:
    return FOLDER / f"{life.__name__.replace('_', '-')}.json"


def digest_of(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


async def recorded(client: Redis, life: Life) -> History:
    """Live a life on an empty server, and read what Redis has of it."""
    await client.flushall()
    await migrate(client)
    store = EventStore(client, 1, Bounds())
    subject = await life(store)
    [keys] = store.shards
    redis = cast("Any", client)
    entries = tuple(
        {"id": entry_id.decode()} | _text(fields)
        for entry_id, fields in await redis.xrange(keys.log)
    )
    head = _text(await redis.hgetall(keys.head(subject)))
    history = History(
        subject=subject,
        state={},
        head={name: text for name, text in sorted(head.items()) if not name.isdigit()},
        entries=tuple(entry for entry in entries if entry["j"] == subject),
    )
    state: dict[str, Any] = msgspec.to_builtins(folded(log_entries(history)))
    return msgspec.structs.replace(history, state=state)


def _text(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}


async def main() -> None:
    digests: dict[str, str] = msgspec.json.decode(DIGESTS.read_bytes()) if DIGESTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder, running(valkey(Path(folder))) as server:
        client = connect(server.url)
        for life in LIVES:
            path = path_of(life)
            if path.exists():
                continue
            text = msgspec.json.encode(await recorded(client, life))
            path.write_bytes(msgspec.json.format(text, indent=1) + b"\n")
            digests[path.name] = digest_of(path)
        await client.aclose()
    DIGESTS.write_bytes(msgspec.json.format(msgspec.json.encode(digests), indent=1) + b"\n")


if __name__ == "__main__":
    asyncio.run(main())
