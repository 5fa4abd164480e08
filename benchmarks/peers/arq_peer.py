# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator"
"""arq: jobs in a sorted set, one key a job; a worker finds jobs by polling."""

import uvloop
from arq import Worker, create_pool, func
from arq.connections import RedisSettings
from stopwatch import REQUEST, Backlog, Timed, Way, main, submit_from_tasks

MAX_JOBS = 64
READ_LIMIT = 10_000
POLL_DELAY_S = 0.01


def submit(redis_url: str, jobs: int) -> Timed:
    async def run() -> Timed:
        pool = await create_pool(RedisSettings.from_dsn(redis_url))
        return await submit_from_tasks(jobs, lambda: pool.enqueue_job("job", REQUEST))

    return uvloop.run(run())


def work(redis_url: str, jobs: int) -> Timed:
    backlog = Backlog(redis_url, jobs, unfinished="ZCARD arq:queue")

    async def job(context: object, request: str) -> str:
        return backlog.run_job()

    async def run() -> Timed:
        worker = Worker(
            [func(job, name="job")],
            redis_settings=RedisSettings.from_dsn(redis_url),
            max_jobs=MAX_JOBS,
            queue_read_limit=READ_LIMIT,
            poll_delay=POLL_DELAY_S,
            log_results=False,
            handle_signals=False,
        )
        return await backlog.time_task(worker.async_run())

    return uvloop.run(run())


if __name__ == "__main__":
    main("arq", submit=Way(submit, "64 tasks"), work=Way(work, f"max_jobs={MAX_JOBS}"))
