"""Two releases on one store: nothing is lost, nothing hangs, and what the older one cannot do it says."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.errors import error_of
from tests.releases.load import Load
from tests.releases.next import BEFORE, HERE, SCHEMA
from tests.releases.site import NEXT, OLD, Role, Site
from tests.servers import running, valkey

QUICK = "echo://?latency_ms=50&tokens=5&tokens_per_second=50"
ENDLESS = "echo://?latency_ms=600000"
CLIENTS = 10
CONCURRENCY = 4


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A store of the older release, on a server of its own."""
    with running(valkey(tmp_path)) as server:
        site = Site(server, tmp_path)
        site.migrate(OLD)
        yield site
        await site.close()


async def test_what_an_older_worker_cannot_write_is_finished_by_a_newer_one(site: Site) -> None:
    old_api = site.start(OLD, "api")
    site.start(OLD, "worker", UPSTREAM_URL=ENDLESS, WORKER_QUEUES="slow")
    site.start(OLD, "worker", UPSTREAM_URL=QUICK, WORKER_QUEUES="default")
    site.migrate(NEXT)
    next_api = site.start(NEXT, "api")
    await site.until_ready(old_api, next_api)

    running_old = await site.submit(old_api, queue="slow")
    await site.until(next_api, running_old, "running")
    newer = await site.submit(next_api)
    await _until_said(site, OLD, "jobs of a newer release are left to its workers")
    after = await site.submit(old_api)
    await site.until(next_api, after, "completed")  # The older worker goes on with its own.
    assert (await site.until(old_api, newer, "queued"))["id"] == newer  # Shown, and not changed:
    refused = await site.http.post(f"{old_api.url}/v1/jobs/{newer}/cancel")
    assert "upgrade it" in error_of(refused, 503, "store_newer")["message"]
    cancelled = await site.http.post(f"{next_api.url}/v1/jobs/{running_old}/cancel")
    assert cancelled.status_code == 202

    site.start(NEXT, "worker", UPSTREAM_URL=QUICK)
    await site.until(old_api, newer, "completed")
    await site.until(old_api, running_old, "cancelled")
    types = [event["type"] for event in await site.events(old_api, newer)]
    assert types == ["submitted", "claimed", "completed"], "it cost the job nothing"
    events = await site.events(old_api, running_old)
    [lost] = [event for event in events if event["type"] == "attempt_lost"]
    assert lost["why"] == "worker drained", "nobody waited for its lease to run out"
    await site.stop(*site.roles)
    verdict = site.verdict()
    assert verdict.regions == {running_old: BEFORE, after: BEFORE, newer: HERE}
    assert not verdict.open_jobs


async def test_an_hour_s_load_over_a_rolling_upgrade_loses_nothing(site: Site) -> None:
    """Compressed: both releases serve and work while some of them are killed; then the old ones leave."""
    workers = {"UPSTREAM_URL": QUICK, "MAX_DELIVERIES": "3"}
    old_api, old_projector = site.start(OLD, "api"), site.start(OLD, "projector")
    old_workers = [site.start(OLD, "worker", **workers) for _ in range(2)]
    await site.until_ready(old_api)
    load = Load(site, [old_api], clients=CLIENTS, seed=1)
    try:
        await _accepted(load, OLD, 30)
        site.migrate(NEXT)
        next_api, _ = site.start(NEXT, "api"), site.start(NEXT, "projector")
        next_workers = [site.start(NEXT, "worker", **workers) for _ in range(2)]
        await site.until_ready(next_api)
        load.apis.append(next_api)
        await _accepted(load, NEXT, 40)
        for victim in (old_workers[0], next_workers[0], old_api, next_api):
            site.kill_and_restart(victim)
            await _accepted(load, NEXT, 20)
        await site.until_ready(old_api, next_api)
        await _accepted(load, OLD, 30)
        load.apis.remove(old_api)
        site.start(NEXT, "worker", **workers)
        await site.stop(*old_workers, old_api, old_projector)
        await _accepted(load, NEXT, 30)
        await load.stop()
    finally:
        await load.close()
    listed = await _listed_as_ended(site, next_api, len(load.accepted))
    await site.stop(*(role for role in site.roles if not role.process.has_ended))

    verdict = site.verdict()
    assert not verdict.open_jobs
    assert verdict.lives == verdict.endings
    assert load.accepted.keys() == verdict.regions.keys() == listed
    for job, release in load.accepted.items():
        regions = {OLD: {BEFORE}, NEXT: {HERE}, None: {BEFORE, HERE}}[release]
        assert verdict.regions[job] in regions, "what only the next release knows is never lost"
    assert set(verdict.schemas) == {str(SCHEMA - 1), str(SCHEMA)}
    assert not verdict.poisoned
    assert verdict.lost.get("lease ran out", 0) <= 2 * CONCURRENCY, "but for two that were killed"
    assert load.refused[OLD, "store_newer"] > 0
    assert not load.refused[NEXT, "store_newer"]
    assert "Traceback" not in site.said(OLD) + site.said(NEXT)


async def _accepted(load: Load, release: str, count: int) -> None:
    """Wait until an API of that release has accepted so many more jobs."""
    until = Counter(load.accepted.values())[release] + count
    async with asyncio.timeout(60):
        while Counter(load.accepted.values())[release] < until:
            load.check()
            await asyncio.sleep(0.02)


async def _listed_as_ended(site: Site, api: Role, count: int) -> set[str]:
    """Every job in the list of those that are over, once the views are there."""
    async with asyncio.timeout(60):
        while True:
            jobs = [
                job
                for status in ("completed", "failed", "cancelled", "expired")
                for job in await site.listed(api, status)
            ]
            if len(jobs) >= count:
                return set(jobs)
            await asyncio.sleep(0.1)


async def _until_said(site: Site, release: str, words: str) -> None:
    async with asyncio.timeout(60):
        while words not in site.said(release):
            await asyncio.sleep(0.05)
