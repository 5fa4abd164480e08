"""Clients of both releases' APIs: each submits to one, and goes on with the job at whichever comes next."""

import asyncio
import secrets
from collections import Counter
from random import Random
from typing import Any, Final

import httpx

from tests.releases.site import CHAT, OLD, Role, Site

_PATIENCE_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.05
_FAILED_WELL: Final = frozenset({"cancelled", "expired", "failed"})


class Load:
    """What the clients were promised, and what they were told."""

    def __init__(self, site: Site, apis: list[Role], clients: int, seed: int) -> None:
        self.site = site
        self.apis = apis  # May change while it runs.
        # The release that accepted each job; None if that one was killed before it could say so.
        self.accepted: dict[str, str | None] = {}
        self.refused: Counter[tuple[str, str]] = Counter()  # Answers by release and code.
        self._stopping = asyncio.Event()
        self._clients = [
            asyncio.create_task(self._client(Random(f"{seed} {number}")))
            for number in range(clients)
        ]

    def check(self) -> None:
        """Raises what ended a client."""
        for client in self._clients:
            if client.done():
                client.result()

    async def stop(self) -> None:
        """Submit nothing more, and wait until every client is through with its job."""
        self._stopping.set()
        await asyncio.gather(*self._clients)

    async def close(self) -> None:
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _client(self, rng: Random) -> None:
        while not self._stopping.is_set():
            job = await self._submit(rng)
            fate = rng.random()
            if fate < 0.3:
                await asyncio.sleep(rng.uniform(0, 0.4))
                await self._ask(rng, "POST", f"/v1/jobs/{job}/cancel", expected=(202, 409))
            ended = await self._until_ended(rng, job)
            if ended["status"] in _FAILED_WELL and fate < 0.2:
                await self._ask(rng, "POST", f"/v1/jobs/{job}/requeue", expected=(200, 409))
                await self._until_ended(rng, job)
            if fate > 0.8:
                answer = await self._ask(rng, "GET", f"/v1/jobs/{job}/events", expected=(200,))
                types = [event["type"] for event in answer.json()["events"]]
                assert types[0] == "submitted", types

    async def _submit(self, rng: Random) -> str:
        body: dict[str, Any] = {"model": "echo", "request": CHAT, "queue": rng.choice(["a", "b"])}
        body["priority"] = rng.choice(["high", "normal", "low"])
        if rng.random() < 0.2:
            body["delay_seconds"] = round(rng.uniform(0.1, 1.0), 2)
        if rng.random() < 0.2:
            body["deadline_seconds"] = round(rng.uniform(0.5, 3.0), 2)
        key = {"Idempotency-Key": secrets.token_hex(8)}
        path = "/v1/jobs"
        answer = await self._ask(rng, "POST", path, expected=(200, 202), json=body, headers=key)
        return str(answer.json()["id"])

    async def _until_ended(self, rng: Random, job: str) -> dict[str, Any]:
        """A job that ends in time, or it hangs."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                answer = await self._ask(
                    rng, "GET", f"/v1/jobs/{job}", expected=(200,), params={"wait": 2}
                )
                found: dict[str, Any] = answer.json()
                if found["finished_at"]:
                    return found

    async def _ask(
        self, rng: Random, method: str, path: str, expected: tuple[int, ...], **asked: Any
    ) -> httpx.Response:
        """Ask whichever API comes next, as behind a load balancer, until one answers that can."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                api = rng.choice(self.apis)
                try:
                    answer = await self.site.http.request(method, f"{api.url}{path}", **asked)
                except httpx.TransportError:  # Killed, or not there yet.
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                if answer.status_code in expected:
                    if method == "POST" and path == "/v1/jobs":
                        is_new = answer.status_code == 202
                        self.accepted[str(answer.json()["id"])] = api.release if is_new else None
                    return answer
                code = answer.json()["error"]["code"]
                self.refused[api.release, code] += 1
                allowed = {"stopping"} | ({"store_newer"} if api.release == OLD else set())
                assert code in allowed, f"{api.release} {method} {path}: {answer.text}"
                await asyncio.sleep(_PAUSE_SECONDS)
