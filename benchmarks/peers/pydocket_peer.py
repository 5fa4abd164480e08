# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator"
"""pydocket: a stream and a consumer group, a hash a job."""

from datetime import timedelta

import uvloop
from docket import Docket, Worker
from stopwatch import REQUEST, Backlog, Timed, Way, main, submit_from_tasks

CONCURRENCY = 64
CHECK_EVERY_S = 0.005


def submit(redis_url: str, jobs: int) -> Timed:
    async def job(request: str) -> str:
        raise NotImplementedError

    async def run() -> Timed:
        async with Docket(url=redis_url) as docket:
            docket.register(job)
            return await submit_from_tasks(jobs, lambda: docket.add(job)(REQUEST))

    return uvloop.run(run())


def work(redis_url: str, jobs: int) -> Timed:
    backlog = Backlog(redis_url, jobs, unfinished="XLEN docket:stream")

    async def job(request: str) -> str:
        return backlog.run_job()

    async def run() -> Timed:
        async with Docket(url=redis_url) as docket:
            docket.register(job)
            async with Worker(
                docket,
                concurrency=CONCURRENCY,
                minimum_check_interval=timedelta(seconds=CHECK_EVERY_S),
                schedule_automatic_tasks=False,
            ) as worker:
                return await backlog.time_task(worker.run_forever())

    return uvloop.run(run())


if __name__ == "__main__":
    main("pydocket", submit=Way(submit, "64 tasks"), work=Way(work, f"concurrency={CONCURRENCY}"))
