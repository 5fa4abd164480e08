"""A store with processes of two releases on it, and a client that goes from one API to the other."""

import asyncio
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from tests.processes import Process, clean_environment
from tests.releases.judge import Verdict
from tests.releases.next import build
from tests.servers import RedisServer, free_port

SHARDS: Final = 2
LEASE_SECONDS: Final = 3
OLD, NEXT = "old", "next"
CHAT: Final = {"messages": [{"role": "user", "content": "one two three"}]}
_PATIENCE_SECONDS: Final = 60.0


class Role:
    """A process of one release."""

    def __init__(self, release: str, role: str, settings: dict[str, str], log_path: Path) -> None:
        self.release = release
        self.role = role
        self.settings = settings
        self.log_path = log_path
        self.process = Process(log_path, role, **settings)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings['API_PORT']}"


class Site:
    """Two releases on one store."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self.server = server
        self._folder = folder
        self._next = build(folder / "next")
        self.roles: list[Role] = []
        self.http = httpx.AsyncClient(timeout=_PATIENCE_SECONDS, trust_env=False)

    def migrate(self, release: str) -> None:
        """As an operator does before the first process of a release starts."""
        log_path = self._folder / f"{release}-migrate.log"
        process = Process(log_path, "migrate", "--shards", str(SHARDS), **self._settings(release))
        assert process.wait() == 0, process.output

    def start(self, release: str, role: str, **settings: str) -> Role:
        common = self._settings(release) | {"LEASE_SECONDS": str(LEASE_SECONDS)}
        common |= {"WORKER_PORT": "0", "SHUTDOWN_GRACE_SECONDS": "5"}
        if role == "api":
            common["API_PORT"] = str(free_port())
        log_path = self._folder / f"{release}-{role}-{len(self.roles)}.log"
        self.roles.append(Role(release, role, common | settings, log_path))
        return self.roles[-1]

    def _settings(self, release: str) -> dict[str, str]:
        settings = {"REDIS_URL": self.server.url}
        return settings if release == OLD else settings | {"PYTHONPATH": str(self._next)}

    async def until_ready(self, *apis: Role) -> None:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            for api in apis:
                while not await self._is_ready(api):
                    assert not api.process.has_ended, api.process.output
                    await asyncio.sleep(0.05)

    async def _is_ready(self, api: Role) -> bool:
        try:
            return (await self.http.get(f"{api.url}/readyz")).is_success
        except httpx.HTTPError:
            return False

    async def submit(self, api: Role, **fields: Any) -> str:
        """Submit a job, again as long as the API does not answer; its id."""
        body = {"model": "echo", "request": CHAT} | fields
        headers = {"Idempotency-Key": secrets.token_hex(8)}
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                try:
                    answer = await self.http.post(f"{api.url}/v1/jobs", json=body, headers=headers)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                    continue
                assert answer.is_success, answer.text
                return str(answer.json()["id"])

    async def events(self, api: Role, job: str) -> list[dict[str, Any]]:
        answer = await self.http.get(f"{api.url}/v1/jobs/{job}/events")
        assert answer.is_success, answer.text
        events: list[dict[str, Any]] = answer.json()["events"]
        return events

    async def until(self, api: Role, job: str, *statuses: str) -> dict[str, Any]:
        """The job once it has one of these statuses."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                answer = await self.http.get(f"{api.url}/v1/jobs/{job}")
                assert answer.is_success, answer.text
                found: dict[str, Any] = answer.json()
                if found["status"] in statuses:
                    return found
                await asyncio.sleep(0.05)

    async def listed(self, api: Role, status: str) -> list[str]:
        """The jobs that the views have under a status."""
        found: list[str] = []
        cursor: str | None = None
        while True:
            asked = {"status": status, "limit": "100"} | ({"cursor": cursor} if cursor else {})
            answer = await self.http.get(f"{api.url}/v1/jobs", params=asked)
            assert answer.is_success, answer.text
            found += [job["id"] for job in answer.json()["jobs"]]
            cursor = answer.json()["cursor"]
            if cursor is None:
                return found

    def kill_and_restart(self, role: Role) -> None:
        """SIGKILL, and the same again in its place."""
        role.process.kill()
        role.process = Process(role.log_path, role.role, **role.settings)

    async def stop(self, *roles: Role) -> None:
        """Ask them to stop, and see that they do."""
        for role in roles:
            role.process.send(signal.SIGTERM)
        for role in roles:
            status = await asyncio.to_thread(role.process.wait)
            assert status == 0, role.process.output

    def verdict(self) -> Verdict:
        """What the next release makes of the store."""
        environment = clean_environment(self._settings(NEXT))
        judging = subprocess.run(
            [sys.executable, "-m", "tests.releases.judge"],
            cwd=self._next,
            env=environment,
            capture_output=True,
            check=False,
        )
        assert judging.returncode == 0, judging.stderr.decode()
        return msgspec.json.decode(judging.stdout, type=Verdict)

    def said(self, release: str) -> str:
        """All that the processes of a release have printed."""
        paths = self._folder.glob(f"{release}-*.log")
        return "".join(path.read_text("utf-8") for path in sorted(paths))

    async def close(self) -> None:
        for role in self.roles:
            if not role.process.has_ended:
                role.process.kill()
        await self.http.aclose()
