# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator"
"""streaq: a stream and a consumer group, one key a job; one multiplexed connection (coredis)."""

import uvloop
from stopwatch import REQUEST, Backlog, Timed, Way, main, submit_from_tasks
from streaq import Worker

CONCURRENCY = 64
PREFETCH = 64


def submit(redis_url: str, jobs: int) -> Timed:
    worker = Worker(redis_url=redis_url)

    @worker.task(name="job")
    async def job(request: str) -> str:
        raise NotImplementedError

    async def send() -> None:
        await job.enqueue(REQUEST)

    async def run() -> Timed:
        async with worker:
            return await submit_from_tasks(jobs, send)

    return uvloop.run(run())


def work(redis_url: str, jobs: int) -> Timed:
    backlog = Backlog(redis_url, jobs, unfinished="XLEN streaq:default:queues:normal")
    worker = Worker(
        redis_url=redis_url, concurrency=CONCURRENCY, prefetch=PREFETCH, handle_signals=False
    )

    @worker.task(name="job", silent=True)
    async def job(request: str) -> str:
        return backlog.run_job()

    async def run() -> Timed:
        return await backlog.time_task(worker.run_async())

    return uvloop.run(run())


if __name__ == "__main__":
    main("streaq", submit=Way(submit, "64 tasks"), work=Way(work, f"concurrency={CONCURRENCY}"))
