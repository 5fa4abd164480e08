"""An API and workers as real processes, and what they say to Prometheus."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from migrations.runner import migrate
from tests.servers import RedisServer, free_port
from tests.tracing.conftest import Site

Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


@pytest.fixture
async def site(server: RedisServer, client: Redis, tmp_path: Path) -> AsyncIterator[Site]:
    await migrate(client)
    with ExitStack() as stack:
        yield Site(stack, tmp_path, server.url)


def scrape(url: str) -> Samples:
    """Samples by name and labels, as Prometheus would have them."""
    answer = httpx.get(f"{url}/metrics", trust_env=False, timeout=10)  # As Prometheus waits.
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples: Samples = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return samples


def value_of(samples: Samples, name: str, **labels: str) -> float:
    return samples[name][frozenset(labels.items())]


def a_worker(site: Site, **environment: str) -> str:
    """Start a worker that serves `echo`; the URL of what it says."""
    port = str(free_port())
    site.worker(WORKER_PORT=port, **environment)
    return f"http://127.0.0.1:{port}"


def url_of(site: Site) -> str:
    """The URL of the API."""
    return str(site.http.base_url)
