"""`respool replay`, as an operator calls it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.commands import Cancel
from core.store import EventStore
from tests.given import a_job
from tests.processes import RESPOOL, clean_environment
from tests.projections.views import catch_up
from tests.replay.worlds import some_of_everything
from tests.servers import RedisServer, free_port


def replay(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RESPOOL, "replay", *arguments],
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_verify_says_how_much_was_compared_and_exits_with_0(
    server: RedisServer, store: EventStore
) -> None:
    await some_of_everything(store)
    said = replay("verify", REDIS_URL=server.url)
    assert (said.returncode, said.stderr) == (0, "")
    entries = len(await store.feed(0, "0-0", 10_000))
    assert said.stdout.startswith(f"{entries} log entries, ")
    assert said.stdout.endswith("as the log says\n")


async def test_what_differs_is_named_and_the_exit_status_is_1_until_it_is_repaired(
    server: RedisServer, store: EventStore
) -> None:
    job = await a_job(store)
    await catch_up(store)
    await store.client.hset(store.shards[0].head(job), "tenant", "mallory")
    sentence = f"shard 0: head {job} tenant is 'mallory'; it should be 'default'"
    said = replay("verify", REDIS_URL=server.url)
    assert (said.returncode, said.stdout.splitlines()[0]) == (1, sentence)
    assert "1 difference" in said.stdout
    as_json = replay("verify", "--json", REDIS_URL=server.url)
    [found] = json.loads(as_json.stdout)["differences"]
    assert as_json.returncode == 1
    assert {found[name] for name in ("kind", "subject", "name", "stored", "expected")} == {
        *("head", job, "tenant", "mallory", "default")
    }
    repaired = replay("repair", REDIS_URL=server.url)
    assert (repaired.returncode, repaired.stdout.splitlines()[0]) == (0, f"mended: {sentence}")
    assert replay("verify", REDIS_URL=server.url).returncode == 0
    assert json.loads(replay("repair", "--json", REDIS_URL=server.url).stdout)["mended"] == []


async def test_what_the_log_lacks_is_left_until_it_is_accepted(
    server: RedisServer, store: EventStore
) -> None:
    job = await a_job(store)
    await store.execute(job, Cancel("somebody"))
    await catch_up(store)
    await store.client.xdel(store.shards[0].log, (await store.history(job))[0].id)
    said = replay("repair", REDIS_URL=server.url)
    assert (said.returncode, "log number 1 is missing" in said.stdout) == (1, True)
    assert replay("repair", "--accept-gaps", REDIS_URL=server.url).returncode == 0
    said = replay("verify", REDIS_URL=server.url)
    assert said.returncode == 0
    assert said.stdout.startswith("accepted: ")


def test_without_a_store_it_says_what_to_set(tmp_path: Path) -> None:
    said = replay("verify", RESPOOL_DATA_DIR=str(tmp_path))
    assert said.returncode == 1
    assert said.stderr.startswith("respool: no store: set REDIS_URL, or let `respool up` run")


def test_a_redis_that_is_away_is_named_without_its_password() -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    said = replay("verify", REDIS_URL=url)
    assert said.returncode == 1
    assert "Redis does not answer" in said.stderr
    assert "secret" not in said.stderr
    assert "Traceback" not in said.stderr


async def test_a_store_that_is_not_migrated_is_said_to_be(server: RedisServer, client: Any) -> None:
    said = replay("verify", REDIS_URL=server.url)
    assert (said.returncode, "run `respool migrate`" in said.stderr) == (1, True)


async def test_who_watches_sees_bars(server: RedisServer, store: EventStore) -> None:
    pty = pytest.importorskip("pty")
    await some_of_everything(store)
    seen: list[bytes] = []

    def read(fd: int) -> bytes:
        seen.append(os.read(fd, 65_536))
        return seen[-1]

    code = (
        "import os, sys; os.environ['REDIS_URL'] = sys.argv[1]; "
        "sys.argv[1:] = ['replay', 'verify']; from cli.program import main; main()"
    )
    assert pty.spawn([sys.executable, "-c", code, server.url], read) == 0
    assert b"events" in b"".join(seen)
