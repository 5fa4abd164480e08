"""Delays end and deadlines pass while no worker is alive: the API fires timers too."""

from tests.api.conftest import Api
from tests.api.soon import soon


async def test_a_job_that_nobody_started_in_time_expires_without_any_worker(
    api: Api, idle_worker: None
) -> None:
    job_id = await api.submit(deadline_seconds=0.05)
    job = await api.job(job_id, wait=10)
    assert (job["status"], job["worker"]) == ("expired", None)


async def test_a_delayed_job_waits_for_a_worker_once_its_delay_is_over(
    api: Api, idle_worker: None
) -> None:
    job_id = await api.submit(delay_seconds=0.05)

    async def is_queued() -> bool:
        return bool((await api.job(job_id))["status"] == "queued")

    await soon(is_queued)
