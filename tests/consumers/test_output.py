"""What an attempt says reaches its readers, also over an outage that its claim outlives."""

import asyncio

from consumers.writer import OutputWriter
from core.commands import Claim
from core.output import Emitter, read_output
from core.records import Bounds
from core.redis import connect
from core.store import EventStore
from tests.given import a_job
from tests.proxy import proxy_to
from tests.servers import RedisServer

PATIENCE_SECONDS = 0.2
SOON_SECONDS = 10


async def test_chunks_that_could_not_be_written_come_with_the_next_one(
    server: RedisServer, store: EventStore
) -> None:
    job_id = await a_job(store)
    await store.execute(job_id, Claim("w1"))
    async with proxy_to(server.port) as proxy:
        client = connect(proxy.url)
        emitter = Emitter(EventStore(client, 1, Bounds()), PATIENCE_SECONDS)
        output = OutputWriter(emitter, job_id, 1, "w1")
        await proxy.refuse()
        for chunk in (b"one", b"two"):
            output.write(chunk)
            async with asyncio.timeout(SOON_SECONDS):
                await output.finish()
        assert await read_output(store, job_id) == []
        await proxy.open()
        output.write(b"three")
        await output.finish()
        await client.aclose()
    written = await read_output(store, job_id)
    assert [chunk.data for chunk in written] == [b"one", b"two", b"three"]
    assert output.chunks == 3
