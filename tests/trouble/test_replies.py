"""Every error that Redis can answer with becomes the error of ours that says what to do."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cli import opening
from core.errors import (
    StoreDenied,
    StoreError,
    StoreFull,
    StoreNotReady,
    StoreUnavailable,
)
from core.functions import call
from core.redis import answering, connect
from core.settings import Settings
from tests.processes import respool
from tests.proxy import proxy_to
from tests.servers import RedisServer, running, valkey

REPLIES = (
    ("LOADING Redis is loading the dataset in memory", StoreUnavailable),
    ("BUSY Redis is busy running a script. You can only call SCRIPT KILL", StoreUnavailable),
    ("READONLY You can't write against a read only replica.", StoreUnavailable),
    ("READONLY Can not run script with write flag on readonly replica.", StoreUnavailable),
    ("MASTERDOWN Link with MASTER is down", StoreUnavailable),
    ("NOREPLICAS Not enough good replicas to write.", StoreUnavailable),
    ("MISCONF Redis is configured to save RDB snapshots, but it cannot", StoreUnavailable),
    ("MISCONF Errors writing to the AOF file: No space left on device", StoreUnavailable),
    ("CLUSTERDOWN Hash slot not served", StoreUnavailable),
    ("TRYAGAIN Multiple keys request during rehashing of slot", StoreUnavailable),
    ("UNBLOCKED force unblock from blocking operation", StoreUnavailable),
    ("ERR max number of clients reached", StoreUnavailable),
    ("OOM command not allowed when used memory > 'maxmemory'.", StoreFull),
    ("OOM command not allowed when used memory > 'maxmemory'. script: f", StoreFull),
    ("NOAUTH Authentication required.", StoreDenied),
    ("WRONGPASS invalid username-password pair or user is disabled.", StoreDenied),
    ("ERR invalid password", StoreDenied),
    ("NOPERM this user has no permissions to run the 'fcall' command", StoreDenied),
)
REFUSALS = (
    "ERR Error running script (call to f): @user_script:1: attempt to index a nil value",
    "ERR unknown command 'FCALL', with args beginning with: ",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "BUSYGROUP Consumer Group name already exists",
    "NOGROUP No such consumer group",
)


async def answer_of(server: RedisServer, reply: str) -> StoreError:
    """Our error for an error that the server answers with."""
    client = connect(server.url)
    try:
        with pytest.raises(StoreError) as raised:
            async with answering():
                await client.eval("return redis.error_reply(ARGV[1])", 0, reply)
    finally:
        await client.aclose()
    return raised.value


@pytest.mark.parametrize(("reply", "error"), REPLIES)
async def test_a_reply_that_a_later_call_may_not_get_is_named_for_what_it_is(
    server: RedisServer, reply: str, error: type[StoreError]
) -> None:
    raised = await answer_of(server, reply)
    assert type(raised) is error
    assert error is StoreFull or reply.partition(" ")[2] in str(raised)


@pytest.mark.parametrize("reply", REFUSALS)
async def test_what_no_later_call_would_mend_is_an_error_with_redis_s_words(
    server: RedisServer, reply: str
) -> None:
    raised = await answer_of(server, reply)
    assert type(raised) is StoreError
    assert reply.strip() in str(raised)


async def test_a_store_without_our_functions_says_what_to_run(tmp_path: Path) -> None:
    with running(valkey(tmp_path)) as server:
        client = connect(server.url)
        with pytest.raises(StoreNotReady, match="run `respool migrate`"):
            await call(client, "heads", [], {})
        await client.aclose()


async def test_a_call_that_was_cancelled_in_mid_reply_leaves_nothing_for_the_next(
    server: RedisServer,
) -> None:
    async with proxy_to(server.port) as proxy:
        client: Any = connect(proxy.url)  # Its annotations do not say that it returns coroutines.
        await client.set("first", "1" * 100_000)
        await client.set("second", "2")
        proxy.pause_in_reply(after_bytes=1_000)
        reading = asyncio.create_task(client.get("first"))
        await proxy.paused.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        proxy.resume()
        assert await client.get("second") == b"2"
        assert await client.get("first") == b"1" * 100_000
        await client.aclose()


async def test_a_new_connection_costs_no_round_trip_before_its_first_call(
    server: RedisServer,
) -> None:
    """Or a Redis whose replies take most of our patience would never be reached."""
    async with proxy_to(server.port) as proxy:
        client = connect(proxy.url)
        async with answering():
            await client.ping()
        assert proxy.replies == 1
        await client.aclose()


async def test_a_wrong_password_is_not_waited_for_to_become_right(tmp_path: Path) -> None:
    with running(valkey(tmp_path, "--requirepass", "right", password="right")) as server:
        async with asyncio.timeout(opening.STORE_WAIT_SECONDS / 3):
            with pytest.raises(StoreDenied, match=r"REDIS_URL is redis://:\*\*\*@"):
                async with opening.open_store(
                    Settings(), server.url.replace("right", "wrong"), 1.0
                ):
                    pass


@pytest.mark.parametrize("role", ["api", "worker", "migrate", "up"])
def test_a_wrong_password_ends_a_role_at_once_and_names_the_variable(
    tmp_path: Path, role: str
) -> None:
    with running(valkey(tmp_path, "--requirepass", "right", password="right")) as server:
        for url in (server.url.replace(":right@", ":wrong@"), server.url.replace(":right@", "")):
            settings = {"UPSTREAM_URL": "echo:", "WORKER_PORT": "0", "API_PORT": "0"}
            with respool(tmp_path / "role.log", role, REDIS_URL=url, **settings) as process:
                assert process.wait() == 1
                assert "REDIS_URL" in process.output
                assert "wrong" not in process.output
                assert "Traceback" not in process.output
