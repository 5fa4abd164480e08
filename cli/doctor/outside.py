"""What is seen over the network: the API, what is public, Prometheus, the inference server, Redis from outside."""

import asyncio
import os
import platform
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx

from cli.doctor import facts
from cli.doctor.facts import Unknown

_SECONDS: Final = 5.0
_BURST_REQUESTS: Final = 60  # More than the guide's 10 a second with a burst of 20.
_UNBOUNDED: Final = 1_000_000

Found = TypeVar("Found")


def client(**options: Any) -> httpx.AsyncClient:
    """One that waits for a few seconds and goes through no proxy."""
    return httpx.AsyncClient(timeout=_SECONDS, trust_env=False, **options)


async def asked(
    url: str | None, variable: str, ask: Callable[[str], Awaitable[Found]]
) -> Found | Unknown:
    """What there is at a URL; why not, if it was not named or does not answer as it should."""
    if url is None:
        return Unknown(f"{variable} is not set")
    try:
        return await ask(url.rstrip("/"))
    except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
        why = f"{url} does not answer: {str(error) or type(error).__name__}"
        return Unknown(why, is_down=True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Unknown(f"{url} does not answer as {variable} should: {error!r}", is_down=True)


async def api(url: str) -> facts.Api:
    """An API, asked without a key."""
    async with client() as http:
        ready = await http.get(f"{url}/readyz")
        without_key = await http.get(f"{url}/v1/queues")
    return facts.Api(url, str(ready.json()["status"]), ready.is_success, without_key.status_code)


async def public(url: str) -> facts.Public:
    """What is public, and what becomes of many requests at once."""
    until, trouble = None, ""
    if url.startswith("https:"):
        try:
            until = await _certificate_until(url)
        except ssl.SSLError as error:
            trouble = f"its certificate cannot be trusted: {error.reason or error}"
    trusted = ssl.create_default_context()  # As for the handshake, SSL_CERT_FILE included.
    async with client(verify=trusted if not trouble else False) as http:
        metrics = await http.get(f"{url}/metrics")
        answers = await asyncio.gather(
            *(http.get(f"{url}/v1/models") for _ in range(_BURST_REQUESTS))
        )
    statuses = Counter(answer.status_code for answer in answers)
    return facts.Public(url, until, trouble, metrics.status_code, statuses)


async def _certificate_until(url: str) -> datetime:
    parts = urlsplit(url)
    async with asyncio.timeout(_SECONDS):
        context = ssl.create_default_context()
        _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
    certificate = writer.get_extra_info("peercert")
    writer.close()
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)


async def prometheus(url: str) -> facts.Rules:
    """What a Prometheus scrapes of Respool, and which alerts it has."""
    async with client() as http:

        async def get(path: str, **query: str) -> Any:
            answer = await http.get(f"{url}/api/v1/{path}", params=query)
            return answer.raise_for_status().json()["data"]

        jobs = {
            one["metric"].get("job", "")
            for one in (await get("query", query="proxy_capacity"))["result"]
        }
        up = (await get("query", query="up"))["result"]
        groups = (await get("rules", type="alert"))["groups"]
        managers = (await get("alertmanagers"))["activeAlertmanagers"]
    targets = {
        one["metric"].get("instance", ""): one["value"][1] == "1"
        for one in up
        if one["metric"].get("job", "") in jobs
    }
    return facts.Rules(
        url=url,
        up=tuple(sorted(name for name, is_up in targets.items() if is_up)),
        down=tuple(sorted(name for name, is_up in targets.items() if not is_up)),
        alerts={rule["name"]: rule["health"] for group in groups for rule in group["rules"]},
        alertmanagers=len(managers),
    )


async def probe(address: str) -> facts.Probe:
    """Whether Redis can be reached from here. Raises ValueError for what is no HOST:PORT."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("takes HOST:PORT")
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError):
        return facts.Probe(address, platform.node(), connected=False)
    writer.close()
    return facts.Probe(address, platform.node(), connected=True)


async def upstream(url: str) -> facts.Upstream:
    """The inference server, and how many requests it runs at once, where it says so."""
    if url.startswith("echo:"):
        return facts.Upstream(url, "an echo", _UNBOUNDED, "it waits for nothing")
    base = url.removesuffix("/v1")
    async with client() as http:
        props = await http.get(f"{base}/props")
        if props.is_success and "total_slots" in (said := props.json()):
            return facts.Upstream(
                url, "llama.cpp", int(said["total_slots"]), "total_slots of /props"
            )
        if (await http.get(f"{base}/api/version")).is_success:
            return _ollama(url, os.environ.get("OLLAMA_NUM_PARALLEL", "").strip())
        (await http.get(f"{base}/v1/models")).raise_for_status()
    why = "it does not say how many requests it runs at once (vLLM: --max-num-seqs)"
    return facts.Upstream(url, "an OpenAI-compatible server", None, why)


def _ollama(url: str, setting: str) -> facts.Upstream:
    """Ollama does not say how many requests it runs at once for each model; its default is 1."""
    if setting.isdigit():
        return facts.Upstream(url, "Ollama", int(setting), f"OLLAMA_NUM_PARALLEL={setting} here")
    why = "OLLAMA_NUM_PARALLEL is not set here; Ollama's default is 1: set it for both, as high as WORKER_CONCURRENCY"
    return facts.Upstream(url, "Ollama", None, why)
