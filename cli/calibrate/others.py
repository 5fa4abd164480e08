"""Who else has the inference server work while it is measured."""

from cli.embedded import DataDirError, running_store
from core.errors import StoreError
from core.redis import REPLY_TIMEOUT_SECONDS, connect
from core.roster import Roster
from core.settings import Settings
from core.store import EventStore
from migrations.runner import shard_count


async def at_work(settings: Settings, upstream: str) -> list[str]:
    """The workers that run jobs there now, as far as there is a store to ask. Raises StoreError."""
    try:
        url = settings.redis_url or await running_store(settings.respool_data_dir)
    except DataDirError:
        return []
    client = connect(url)
    try:
        bounds = settings.bounds(REPLY_TIMEOUT_SECONDS)
        store = EventStore(client, await shard_count(client), bounds)
        members = await Roster(store).members()
    finally:
        await client.aclose()
    return [
        f"{one.name} runs {one.heartbeat.running}"
        for one in members
        if one.worker.upstream == upstream and one.heartbeat and one.heartbeat.running
    ]


async def noted(settings: Settings, upstream: str) -> list[str]:
    """What is to be said of it in a report; nothing if nobody is."""
    try:
        working = await at_work(settings, upstream)
    except StoreError as error:
        return [f"whether workers ran jobs there meanwhile is not known: {error}"]
    return [f"workers ran jobs there meanwhile, so it can do more: {', '.join(working)}"] * bool(
        working
    )
