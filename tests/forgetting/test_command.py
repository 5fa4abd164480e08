"""`respool forget`, as an operator calls it."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from redis.asyncio import Redis

from core.commands import Cancel
from core.store import EventStore
from projections.building import build
from tests.forgetting.secrets import (
    WORD,
    archive_all,
    ended_jobs,
    is_in_redis,
    is_on_disk,
    saying,
)
from tests.given import a_job, new_id
from tests.processes import RESPOOL, clean_environment
from tests.servers import RedisServer

Said = subprocess.CompletedProcess[str]


async def respool_forget(*arguments: str, **environment: str) -> Said:
    """Call it in a thread: a projector has to work meanwhile."""

    def call() -> Said:
        return subprocess.run(
            [RESPOOL, "forget", *arguments],
            env=clean_environment(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return await asyncio.to_thread(call)


@pytest.fixture
def where(syncing: RedisServer, tmp_path: Path) -> dict[str, str]:
    return {"REDIS_URL": syncing.url, "ARCHIVE_URL": f"file://{tmp_path}/archive"}


async def test_a_tenants_content_goes_out_of_log_archive_and_redis_own_files(
    short: EventStore, emptied: Redis, where: dict[str, str], tmp_path: Path
) -> None:
    await ended_jobs(short, "acme")
    await build(short)
    await archive_all(short)
    job = await a_job(short, tenant="acme", **saying(WORD))
    await short.execute(job, Cancel("somebody"))
    meant = await respool_forget("--tenant", "acme", "--dry-run", **where)
    assert (meant.returncode, len(meant.stdout.splitlines())) == (0, 9)
    assert meant.stderr == "9 jobs would be forgotten; 0 were before, 0 have not ended\n"
    assert is_on_disk(tmp_path / "archive")
    said = await respool_forget("--tenant", "acme", "--yes", "--reason", "ticket 7", **where)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("forgot 9 jobs: content was taken out of ")
    assert "backups made before now still have it" in said.stderr
    assert not is_on_disk(tmp_path / "archive")
    assert not await is_in_redis(emptied)
    while (await emptied.info("persistence"))["aof_rewrite_in_progress"]:
        pass
    folder = Path(str((await emptied.config_get("dir"))["dir"])) / "appendonlydir"
    assert not any(WORD.encode() in path.read_bytes() for path in folder.iterdir())


async def test_what_is_left_is_named_and_the_exit_status_is_1(
    long: EventStore, where: dict[str, str]
) -> None:
    job = await a_job(long, tenant="acme")
    said = await respool_forget("--job", job, "--yes", "--json", **where)
    assert (said.returncode, json.loads(said.stdout)["open"]) == (1, [job])
    said = await respool_forget("--job", job, "--yes", **where)
    assert said.stderr == f"left: job {job} has not ended; cancel it first, or wait\n"


async def test_without_an_answer_to_its_question_nothing_is_forgotten(
    long: EventStore, emptied: Redis, where: dict[str, str]
) -> None:
    await ended_jobs(long, "acme")
    said = await respool_forget("--tenant", "acme", **where)
    assert (said.returncode, said.stdout) == (130, "")
    assert "forget 8 jobs for good?" in said.stderr
    assert await is_in_redis(emptied)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name either jobs (--job ID) or a tenant (--tenant NAME)"),
        (("--job", "1", "--tenant", "acme"), "name either jobs"),
        (("--job", "nonsense"), "'nonsense' is no job's id: 19 characters such as"),
        (("--tenant", ""), "name either jobs"),
    ],
)
async def test_what_was_called_wrongly_says_what_would_be_right(
    arguments: tuple[str, ...], says: str
) -> None:
    said = await respool_forget(*arguments)
    assert said.returncode == 2
    assert says in said.stderr
    assert "Traceback" not in said.stderr


async def test_a_job_that_nobody_knows_is_an_error(long: EventStore, where: dict[str, str]) -> None:
    job = new_id()
    said = await respool_forget("--job", job, "--yes", **where)
    assert said.returncode == 1
    assert f"neither the log nor the archive has a job {job}" in said.stderr


async def test_without_the_archive_that_there_is_it_says_where_to_name_it(
    short: EventStore, where: dict[str, str]
) -> None:
    await ended_jobs(short, "acme")
    await build(short)
    await archive_all(short)
    said = await respool_forget("--tenant", "acme", "--yes", REDIS_URL=where["REDIS_URL"])
    assert said.returncode == 1
    assert "set ARCHIVE_URL to where that is" in said.stderr
