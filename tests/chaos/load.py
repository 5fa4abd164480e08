"""Clients that keep the cluster busy: each submits a job, does something with it, and comes again.

There is a fixed number of them, so the load is bounded. What they were promised is kept, to be held
against the log.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

from tests.chaos.front import Front
from tests.chaos.readers import Reading, read_events, read_output

_WITH_A_KEY: Final = 0.7
_SENT_TWICE: Final = 0.2  # Of those with a key, though the first answer was heard.
_UNREADABLE: Final = 0.05  # Requests that the upstream refuses.
_IMPATIENT: Final = 0.05  # Jobs whose attempts take longer than they may.
_REQUEUED: Final = 0.5  # Of the jobs that ended badly.
_AFTER_A_REFUSAL_SECONDS: Final = 0.2


class Load:
    """What the clients were promised, and what they saw."""

    def __init__(self, front: Front, seed: int, clients: int) -> None:
        self.front = front
        self.accepted: set[str] = set()
        self.keys: dict[str, set[str]] = defaultdict(set)  # The jobs that a key was answered with.
        self.readings: list[Reading] = []
        self._stopping = asyncio.Event()
        self._clients = [
            asyncio.create_task(self._client(Random(f"{seed} {number}"), number))
            for number in range(clients)
        ]

    async def stop(self) -> None:
        """Submit nothing more, and wait until every client has what it waits for."""
        self._stopping.set()
        await asyncio.gather(*self._clients)

    async def close(self) -> None:
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _client(self, rng: Random, number: int) -> None:
        doings: list[Callable[[Random, str], Awaitable[None]]] = [
            self._read_events,
            self._read_output,
            self._wait,
            self._cancel,
            self._leave,
        ]
        turn = 0
        while not self._stopping.is_set():
            turn += 1
            key = f"{number}-{turn}" if rng.random() < _WITH_A_KEY else None
            job_id = await self._submit(rng, key)
            if job_id is None:
                await asyncio.sleep(_AFTER_A_REFUSAL_SECONDS)
            else:
                await rng.choice(doings)(rng, job_id)

    async def _submit(self, rng: Random, key: str | None) -> str | None:
        """Submit until it is accepted; without a key once, as a second job would come of it."""
        headers = {} if key is None else {"Idempotency-Key": key}
        if rng.random() < 0.1:
            headers["Prefer"] = "wait=2"
        asked: dict[str, Any] = {"json": a_job(rng), "headers": headers}
        try_it = self.front.once if key is None else self.front.ask
        response = await try_it("POST", "/v1/jobs", **asked)
        if response is None or not response.is_success:
            return None
        job_id = self._promised(response.json()["id"], key)
        if key is not None and rng.random() < _SENT_TWICE:
            again = await self.front.ask("POST", "/v1/jobs", **asked)
            if again is not None and again.is_success:
                self._promised(again.json()["id"], key)
        return job_id

    def _promised(self, job_id: str, key: str | None) -> str:
        self.accepted.add(job_id)
        if key is not None:
            self.keys[key].add(job_id)
        return job_id

    async def _read_events(self, rng: Random, job_id: str) -> None:
        self.readings.append(await read_events(self.front, rng, job_id))
        await self._perhaps_requeue(rng, job_id)

    async def _read_output(self, rng: Random, job_id: str) -> None:
        self.readings.append(await read_output(self.front, rng, job_id))
        await self._perhaps_requeue(rng, job_id)

    async def _wait(self, rng: Random, job_id: str) -> None:
        while True:
            response = await self.front.ask("GET", f"/v1/jobs/{job_id}", params={"wait": 5})
            if response is None or response.json().get("finished_at"):
                break
        await self._perhaps_requeue(rng, job_id)

    async def _cancel(self, rng: Random, job_id: str) -> None:
        await asyncio.sleep(rng.uniform(0.0, 1.5))
        await self.front.ask("POST", f"/v1/jobs/{job_id}/cancel")
        await self._wait(rng, job_id)

    async def _leave(self, rng: Random, job_id: str) -> None:
        await asyncio.sleep(rng.uniform(0.5, 1.5))

    async def _perhaps_requeue(self, rng: Random, job_id: str) -> None:
        response = await self.front.ask("GET", f"/v1/jobs/{job_id}")
        if response is None or response.json()["status"] not in {"failed", "cancelled", "expired"}:
            return
        if rng.random() < _REQUEUED:
            await self.front.ask("POST", f"/v1/jobs/{job_id}/requeue")


def a_job(rng: Random) -> dict[str, Any]:
    """A submission: any priority, now and then late, hasty, impatient or wrong."""
    words = " ".join(str(rng.randrange(1_000)) for _ in range(10))
    message = {"role": "user"} if rng.random() < _UNREADABLE else {"role": "user", "content": words}
    body: dict[str, Any] = {
        "model": "echo",
        "request": {"messages": [message]},
        "queue": rng.choice(["default", "default", "batch"]),
        "priority": rng.choice(["high", "normal", "normal", "low"]),
    }
    if rng.random() < 0.15:
        body["delay_seconds"] = round(rng.uniform(0.1, 2.0), 2)
    if rng.random() < 0.15:
        body["deadline_seconds"] = round(rng.uniform(0.3, 4.0), 2)
    if rng.random() < _IMPATIENT:
        body |= {"timeout_seconds": 0.5, "max_attempts": rng.choice([1, 2])}
    return body
