"""The processes of a chaos run: two APIs, four workers and two projectors on one Redis.

Each is behind a proxy of its own.
"""

import asyncio
import shutil
import signal
from pathlib import Path
from typing import Final

import httpx

from core.errors import StoreError
from core.redis import answering, connect
from tests.processes import Process
from tests.proxy import Proxy
from tests.servers import RedisServer, debian_redis, free_port, valkey

WORKERS: Final = ("worker-0", "worker-1", "worker-2", "worker-3")
APIS: Final = ("api-0", "api-1")
PROJECTORS: Final = ("projector-0", "projector-1")
SHARDS: Final = 2
LEASE_SECONDS: Final = 1
GRACE_SECONDS: Final = 1
UPSTREAM_URL: Final = "echo://?latency_ms=200&tokens=10&tokens_per_second=10"
_CONCURRENCY: Final = 3
_READY_SECONDS: Final = 60.0
_DRAIN_SECONDS_MAX: Final = 30.0
_CLOCK_SECONDS: Final = 0.3
_WATCH_EVERY_SECONDS: Final = 0.1


class Member:
    """One process and its proxy."""

    def __init__(self, place: str, name: str, log_path: Path, proxy: Proxy) -> None:
        self.place = place  # Whoever comes after it has the same.
        self.name = name
        self.log_path = log_path
        self.proxy = proxy
        self.process: Process
        self.may_end = False


class Cluster:
    """A whole Respool. What its processes do wrong is in `violations`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "redis").mkdir()
        is_installed = shutil.which("redis-server") is not None
        make_server = debian_redis if is_installed else valkey
        self.server_name = "Debian's redis-server" if is_installed else "the embedded Valkey"
        # Synced before each reply, so that whatever is lost was lost by Respool. With everysec Redis
        # itself may answer before it writes, while a sync is under way.
        # The log of its commands is rewritten now and then, so that it is read soon.
        options = (
            *("--appendonly", "yes", "--appendfsync", "always"),
            *("--auto-aof-rewrite-min-size", "4mb"),
        )
        self.server: RedisServer = make_server(folder / "redis", *options)
        self.redis_trouble = asyncio.Lock()  # One at a time, however long a restart takes.
        self.members: dict[str, Member] = {}
        self.violations: list[str] = []
        self._ports = {api: free_port() for api in APIS}
        self.urls = [f"http://127.0.0.1:{port}" for port in self._ports.values()]
        self._leaving: list[Member] = []
        self.started = 0
        self._clock = connect(self.server.url)
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start everything, and wait until both APIs are ready."""
        await asyncio.to_thread(self.server.start)
        log_path = self.folder / "migrate.log"
        shards = ("--shards", str(SHARDS))
        migration = Process(log_path, "migrate", *shards, REDIS_URL=self.server.url)
        assert await asyncio.to_thread(migration.wait) == 0, migration.output
        for place in APIS + WORKERS + PROJECTORS:
            await self._start(place)
        self._watching = asyncio.create_task(self._watch())
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(_READY_SECONDS):
            for url in self.urls:
                while not await _is_ready(http, url):
                    await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Ask everybody to stop, and see that they do."""
        everybody = list(self.members.values())
        for member in everybody:
            member.may_end = True
            member.process.send(signal.SIGTERM)
        for member in everybody:
            await self._see_off(member)

    async def close(self) -> None:
        """End whatever is left."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        for member in (*self.members.values(), *self._leaving):
            if not member.process.has_ended:
                member.process.kill()
            await member.proxy.close()
        await self._clock.aclose()
        self.server.stop()

    async def kill(self, member: Member) -> None:
        """SIGKILL, and another one in its place."""
        member.may_end = True
        await asyncio.to_thread(member.process.kill)
        await member.proxy.close()
        await self._start(member.place)

    async def drain(self, member: Member) -> None:
        """SIGTERM, and another one in its place: of a worker at once, of an API once its port is free."""
        member.may_end = True
        member.process.send(signal.SIGTERM)
        if member.place in WORKERS:
            self._leaving.append(member)
            await self._start(member.place)
            await self._see_off(member)
            self._leaving.remove(member)
        else:
            await self._see_off(member)
            await self._start(member.place)

    async def redis_now_ms(self) -> int | None:
        """Redis's clock; None if it does not answer just now."""
        try:
            async with asyncio.timeout(_CLOCK_SECONDS), answering():
                seconds, micros = await self._clock.time()
        except (StoreError, TimeoutError):
            return None
        return int(seconds) * 1_000 + int(micros) // 1_000

    def tracebacks(self) -> list[str]:
        """Every log with a stack trace in it, and its last line."""
        found = []
        for path in sorted(self.folder.glob("*.log")):
            _, mark, rest = path.read_text("utf-8").partition("Traceback (most recent")
            if mark:
                why = next((line for line in rest.splitlines()[1:] if line[:1].strip()), "?")
                found.append(f"a stack trace in {path}: {why}")
        return found

    async def _start(self, place: str) -> None:
        self.started += 1
        name = f"{place}.{self.started}"
        proxy = Proxy(self.server.port)
        await proxy.open()
        member = Member(place, name, self.folder / f"{name}.log", proxy)
        member.process = Process(
            member.log_path, *self._role(place), **self._settings(place, proxy)
        )
        self.members[place] = member

    def _role(self, place: str) -> tuple[str]:
        return (place.partition("-")[0],)

    def _settings(self, place: str, proxy: Proxy) -> dict[str, str]:
        settings = {"REDIS_URL": proxy.url, "LEASE_SECONDS": str(LEASE_SECONDS)}
        if place in APIS:
            return settings | {"API_PORT": str(self._ports[place])}
        return settings | {
            "UPSTREAM_URL": UPSTREAM_URL,
            "WORKER_PORT": "0",
            "WORKER_CONCURRENCY": str(_CONCURRENCY),
            "SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS),
        }

    async def _see_off(self, member: Member) -> None:
        """Wait until a member that was asked to stop has, with status 0."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS_MAX):
                while not member.process.has_ended:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            self.violations.append(
                f"{member.name} did not stop within {_DRAIN_SECONDS_MAX:g} s of SIGTERM: {member.log_path}"
            )
            await asyncio.to_thread(member.process.kill)
        else:
            if (status := await asyncio.to_thread(member.process.wait)) != 0:
                self.violations.append(
                    f"{member.name} stopped with status {status}: {member.log_path}"
                )
        await member.proxy.close()

    async def _watch(self) -> None:
        """Notice who ends without having been told to, and put another one in its place."""
        while True:
            for place, member in list(self.members.items()):
                if member.process.has_ended and not member.may_end:
                    member.may_end = True
                    status = await asyncio.to_thread(member.process.wait)
                    self.violations.append(
                        f"{member.name} ended by itself with status {status}: {member.log_path}"
                    )
                    await member.proxy.close()
                    await self._start(place)
            await asyncio.sleep(_WATCH_EVERY_SECONDS)


async def _is_ready(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/readyz")).is_success
    except httpx.HTTPError:
        return False
