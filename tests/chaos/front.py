"""The APIs as a client sees them: one is asked, and if it does not answer the other, for a while."""

import asyncio
import itertools
import time
from collections import Counter
from types import TracebackType
from typing import Any, Final

import httpx

_TRY_FOR_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.2
_ANSWERS: Final = frozenset({200, 202, 409})
_LATER: Final = frozenset({429, 503})


class Front:
    """All APIs. An answer that no client should get is in `violations`."""

    def __init__(self, urls: list[str]) -> None:
        self.clients = [
            httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(15.0), trust_env=False)
            for url in urls
        ]
        self.answers: Counter[str] = Counter()
        self.violations: list[str] = []
        self._turns = itertools.count()

    async def __aenter__(self) -> "Front":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for client in self.clients:
            await client.aclose()

    def next_client(self) -> httpx.AsyncClient:
        """The API whose turn it is."""
        return self.clients[next(self._turns) % len(self.clients)]

    async def once(self, method: str, path: str, **asked: Any) -> httpx.Response | None:
        """One answer; None if there was none, or one that says to come again."""
        try:
            response = await self.next_client().request(method, path, **asked)
        except httpx.HTTPError as error:
            self.answers[type(error).__name__] += 1
            return None
        self.answers[str(response.status_code)] += 1
        if response.status_code in _LATER:
            if "retry-after" not in response.headers:
                self.violations.append(f"{method} {path}: {response.status_code}, no Retry-After")
            return None
        if response.status_code not in _ANSWERS or not _is_json(response):
            what = f"{response.status_code} {response.text[:300]!r}"
            self.violations.append(f"{method} {path}: {what} at {time.strftime('%H:%M:%S')}")
            return None
        return response

    async def ask(self, method: str, path: str, **asked: Any) -> httpx.Response | None:
        """The answer, however often one has to ask; None, and a violation, if that takes too long."""
        until = time.monotonic() + _TRY_FOR_SECONDS
        while time.monotonic() < until:
            response = await self.once(method, path, **asked)
            if response is not None:
                return response
            await asyncio.sleep(_PAUSE_SECONDS)
        self.violations.append(f"{method} {path}: no answer within {_TRY_FOR_SECONDS:g} s")
        return None


def _is_json(response: httpx.Response) -> bool:
    return str(response.headers.get("content-type")).startswith("application/json")
