"""deploy/redis/: the settings are in force, the program needs no more than its user may, and why noeviction."""

import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from cli.opening import open_store
from core.commands import Forget
from core.errors import StoreDenied, StoreNotReady
from core.functions import library_source
from core.records import Bounds
from core.redis import connect
from core.settings import Settings
from core.store import EventStore
from migrations.runner import migrate
from projections.forgetting import views
from projections.forgetting.forget import forget
from projections.forgetting.selection import Who
from projections.reading.cluster import cluster
from tests.deploy.servers import ADMIN_PASSWORD, DEPLOY, PASSWORD, DeployedRedis
from tests.given import a_job
from tests.projections.views import catch_up
from tests.replay.worlds import findings, some_of_everything
from tests.servers import debian_redis, running

GUIDES = {
    "maxclients": "10000",
    "maxmemory": str(4 * 1024**3),
    "save": "900 1 300 10 60 10000",
    "appendonly": "yes",
    "appendfsync": "everysec",
}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedRedis]:
    with running(DeployedRedis(tmp_path_factory.mktemp("redis"))) as server:
        yield server  # type: ignore[misc] # running() gives back what it was given.


@pytest.fixture
async def program(deployed: DeployedRedis) -> AsyncIterator[Redis]:
    client = connect(deployed.program_url)
    yield client
    await client.aclose()


async def test_the_guides_settings_are_in_force_and_noeviction_is(tmp_path: Path) -> None:
    server = DeployedRedis(tmp_path)
    del server.environment["REDIS_MAXMEMORY"]  # The file's own.
    with running(server):
        client = connect(server.url)
        config = await client.config_get("*")
        await client.aclose()
    assert {name: config[name] for name in GUIDES} == GUIDES
    assert config["maxmemory-policy"] == "noeviction"


async def test_the_program_starts_on_it(deployed: DeployedRedis, program: Redis) -> None:
    await migrate(program)
    async with open_store(Settings(), deployed.program_url, 5.0) as store:
        await a_job(store)


async def test_allkeys_lru_is_refused_as_it_deletes_accepted_jobs(tmp_path: Path) -> None:
    options = ("--maxmemory-policy", "allkeys-lru", "--maxmemory", "8mb")
    with running(debian_redis(tmp_path, *options)) as server:
        client = connect(server.url)
        await migrate(client)
        with pytest.raises(StoreNotReady, match="maxmemory-policy allkeys-lru, which deletes"):
            async with open_store(Settings(), server.url, 5.0):
                pass
        store = EventStore(client, 1, Bounds())
        jobs = [await a_job(store) for _ in range(10)]
        filling = 0
        while await client.exists(store.keys_of(jobs[0]).log):
            await client.set(f"filling:{filling}", bytes(100_000))
            filling += 1
            assert filling < 1_000, "Redis never deleted the log"
        await client.aclose()


async def test_its_user_may_do_what_jobs_figures_verify_and_forget_take(
    deployed: DeployedRedis, program: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what no function does: figures for /metrics, what verify reads, room for a second log."""
    monkeypatch.setattr(views, "_PATIENCE_SECONDS", 0.0)  # No projector is there meanwhile.
    operator = connect(deployed.url)
    await operator.execute_command("ACL", "LOG", "RESET")  # Other tests are denied on purpose.
    await migrate(program)
    store = EventStore(program, 1, Bounds())
    await some_of_everything(store)
    await cluster(store)
    assert await findings(store) == []
    await forget(store, Who(tenant="team:a"), Forget("operator"))
    await store.client.execute_command("BGREWRITEAOF")  # As `respool forget` does in the end.
    await catch_up(store)
    assert await findings(store) == []
    denied = await operator.execute_command("ACL", "LOG")
    await operator.aclose()
    assert denied == []


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
        ("SHUTDOWN", "NOSAVE"),
        ("ACL", "LIST"),
        ("CLIENT", "LIST"),
        ("FUNCTION", "FLUSH"),
        ("GET", "of-somebody-else"),
        ("PUBLISH", "of-somebody-else", ""),
    ],
    ids=" ".join,
)
async def test_the_programs_user_may_do_nothing_else(
    program: Redis, command: tuple[str, ...]
) -> None:
    with pytest.raises(NoPermissionError):
        await program.execute_command(*command)


async def test_nobody_gets_in_without_a_password(deployed: DeployedRedis) -> None:
    client = connect(f"redis://127.0.0.1:{deployed.port}/0")
    with pytest.raises(StoreDenied, match="Redis refuses the user or the password"):
        await migrate(client)
    await client.aclose()


def test_every_command_of_the_library_is_one_that_the_user_may_call() -> None:
    allowed = (DEPLOY / "redis" / "respool.acl").read_text("utf-8").split()
    called = re.findall(
        r"redis\.p?call\(\s*'([A-Z]+)'(?:,\s*'([A-Z]+)')?|in_chunks\('([A-Z]+)'", library_source()
    )
    assert called
    containers = {"XGROUP", "XINFO"}
    commands = {
        f"{name}|{second}" if name in containers else name or chunked
        for name, second, chunked in called
    }
    assert {command for command in commands if f"+{command.lower()}" not in allowed} == set()


def test_a_missing_password_is_named_before_anything_starts() -> None:
    start = subprocess.run(
        [DEPLOY / "redis" / "start.sh"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert start.returncode != 0
    assert "REDIS_PASSWORD: is the password of the user respool" in start.stderr


def test_passwords_are_written_as_hashes_alone(deployed: DeployedRedis) -> None:
    users = Path(deployed.environment["REDIS_USERS_FILE"])
    assert users.stat().st_mode & 0o077 == 0
    text = users.read_text("utf-8")
    assert PASSWORD not in text
    assert ADMIN_PASSWORD not in text
