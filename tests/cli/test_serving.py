"""Whose word on a client's address is taken."""

from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, get

from cli.serving import bind, serving

FORWARDED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


@get("/")
async def who(request: Request[Any, Any, Any]) -> str:
    client = request.client
    return f"{request.url.scheme} {client.host if client else None}"


async def seen(trusted: tuple[str, ...], headers: dict[str, str]) -> str:
    """What the API takes for its client, behind these proxies."""
    async with (
        serving(Litestar([who]), bind("127.0.0.1", 0, "API_PORT"), trusted_proxies=trusted) as url,
        httpx.AsyncClient() as http,
    ):
        return (await http.get(url, headers=headers)).text


@pytest.mark.parametrize("trusted", [(), ("10.0.0.0/8",)])
async def test_nobody_is_believed_who_is_not_named(trusted: tuple[str, ...]) -> None:
    assert await seen(trusted, FORWARDED) == "http 127.0.0.1"


@pytest.mark.parametrize("trusted", [("127.0.0.1",), ("127.0.0.0/8",)])
async def test_a_proxy_that_is_named_is_believed(trusted: tuple[str, ...]) -> None:
    assert await seen(trusted, FORWARDED) == "https 203.0.113.9"


async def test_what_a_client_says_through_a_proxy_is_not_believed() -> None:
    forged = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9"}
    assert await seen(("127.0.0.1",), forged) == "http 203.0.113.9"
