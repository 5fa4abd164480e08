"""The procedures of docs/backup.md, run as they stand there."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from core.keys import META
from core.records import Bounds
from core.redis import connect
from core.states import Completed
from core.store import EventStore
from core.tail import TailWatch
from migrations.runner import migrate
from tests.backup.servers import appending
from tests.cli.conftest import stop_store
from tests.cli.running import StartUp
from tests.consumers.fleet import Scripted, a_worker, ended
from tests.durability.submitting import Submitters
from tests.given import a_job
from tests.processes import RESPOOL, clean_environment
from tests.servers import running
from tests.store.audit import audit

PAGE = Path(__file__).parents[2] / "docs" / "backup.md"


def steps(language: str) -> list[str]:
    """The page's commands, block by block."""
    page = PAGE.read_text("utf-8")
    blocks = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", page, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in blocks]


def run(step: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """One block, in a shell, by somebody who has `respool` installed."""
    path = f"{RESPOOL.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-ec", step],
        cwd=folder,
        env=clean_environment(environment) | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("kind", ["redis", "valkey"])
async def test_a_store_that_was_lost_under_load_comes_back_with_all_that_was_acknowledged(
    tmp_path: Path, kind: str
) -> None:
    lost, new = tmp_path / "lost", tmp_path / "new"
    backing_up, *_ = steps("sh")[::-1]
    environment = {"BACKUP_DIR": str(tmp_path / "backups")}
    with running(appending(kind, lost)) as server:
        client = connect(server.url)
        await migrate(client)
        store = EventStore(client, 1, Bounds(waiting_max=100_000))
        watch = TailWatch(store)
        async with Submitters(store, tasks=8) as submitters:
            await submitters.until(200)
            promised = set(submitters.acknowledged)
            said = run(backing_up, tmp_path, REDIS_URL=server.url, **environment)
            assert (said.returncode, said.stderr) == (0, "")
        await watch.look()
        incarnation = await client.hget(META, "incarnation")
        server.stop()
    shutil.rmtree(lost)
    await client.aclose()

    # A millisecond a key to write its file: who does not wait for that finds nothing afterwards.
    with running(appending(kind, new, "--rdb-key-save-delay", "1000")) as server:
        environment["REDIS_URL"] = server.url
        check, restore, verify, back_up = steps("sh")
        assert ".rdb: OK" in run(check, tmp_path, **environment).stdout
        said = run(restore, tmp_path, **environment)
        assert (said.returncode, said.stderr) == (0, "")
        assert said.stdout.endswith("as the log says\n")
        server.stop()  # It is on disk: what follows is read from there.
        server.start()
        client = connect(server.url)
        assert await client.hget(META, "incarnation") != incarnation
        store = EventStore(client, 1, Bounds(waiting_max=100_000))
        watch._store = store
        await watch.look()
        assert "another one than before" in (watch.loss or "")
        async with a_worker(server, Scripted(), concurrency=50):
            for job in promised:
                assert isinstance(await ended(store, job), Completed)
            assert isinstance(await ended(store, await a_job(store)), Completed)
        assert run(verify, tmp_path, **environment).returncode == 0
        assert run(back_up, tmp_path, **environment).returncode == 0
        await audit(store)
        await client.aclose()
    assert len(list((tmp_path / "backups").glob("*.rdb"))) == 2


@pytest.fixture
def in_dot_respool(tmp_path: Path, start_up: StartUp) -> Iterator[StartUp]:
    """Starts `respool up` on the data directory that it has by default."""
    yield partial(start_up, RESPOOL_DATA_DIR=str(tmp_path / ".respool"))
    stop_store(tmp_path / ".respool")


def test_the_store_of_up_comes_back_too(tmp_path: Path, in_dot_respool: StartUp) -> None:
    up = in_dot_respool().until_ready()
    job = up.submit("one two three", prefer="wait=20")
    back_up, restore = steps("sh up")
    said = run(back_up, tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    up.process.send(signal.SIGTERM)
    assert up.process.wait() == 0
    assert run("respool restore backups", tmp_path).returncode == 1  # It is not empty.
    said = run(restore, tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    up = in_dot_respool().until_ready()
    assert up.http.get(f"/v1/jobs/{job['id']}").json()["status"] == "completed"
    assert up.submit("again", prefer="wait=20")["status"] == "completed"
    up.process.send(signal.SIGTERM)  # It stops its store, too.
    assert up.process.wait() == 0
