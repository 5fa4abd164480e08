"""Real projectors, killed under load."""

from pathlib import Path

from redis.asyncio import Redis

from tests.projections.killing import kill_projectors
from tests.servers import RedisServer


async def test_views_are_the_fold_of_the_log_however_often_projectors_are_killed(
    server: RedisServer, client: Redis, tmp_path: Path
) -> None:
    commits, entries = await kill_projectors(server, tmp_path, kills=10, seed=7)
    assert commits > 10
    assert entries > 100
