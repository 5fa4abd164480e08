"""`respool backup --every`: again and again, past what goes wrong, until it is told to stop."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cli.backup.backup import _due_in
from cli.backup.shelf import backups
from core.redis import connect
from migrations.runner import migrate
from tests.backup.servers import appending
from tests.processes import respool
from tests.servers import running


async def until_there_are(folder: Path, count: int) -> None:
    async with asyncio.timeout(20):
        while len(backups(folder)) < count:
            await asyncio.sleep(0.02)


async def test_it_goes_on_after_an_outage_keeps_the_newest_and_stops_when_told(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "backups"
    with running(appending("valkey", tmp_path / "store")) as server:
        client = connect(server.url)
        await migrate(client)
        await client.aclose()
        environment = {"REDIS_URL": server.url, "BACKUP_DIR": str(folder)}
        with respool(
            tmp_path / "log", "backup", "--every", "1s", "--keep", "2", **environment
        ) as process:
            await until_there_are(folder, 1)
            server.stop()
            while "no backup was made: Redis" not in process.output:
                await asyncio.sleep(0.02)
            server.start()
            await until_there_are(folder, 2)
            first = backups(folder)[0].path
            while first.exists():
                await asyncio.sleep(0.02)
            process.send(signal.SIGTERM)
            assert process.wait() == 0
            assert "Traceback" not in process.output
    assert 1 <= len(backups(folder)) <= 2
    assert not list(folder.glob("*.partial"))


def test_a_new_start_waits_for_what_is_left_of_the_time(tmp_path: Path) -> None:
    assert _due_in(tmp_path, 3_600) == 0
    at = datetime.now(UTC) - timedelta(minutes=59)
    (tmp_path / f"respool-{at:%Y%m%dT%H%M%SZ}.rdb").touch()
    assert 50 < _due_in(tmp_path, 3_600) <= 61
    assert _due_in(tmp_path, 60) == 0
