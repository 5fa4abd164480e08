# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator"
"""saq: a list of job ids, one key a job; each of a worker's slots waits in a blocking move."""

import uvloop
from saq import Queue, Worker
from stopwatch import REQUEST, Backlog, Timed, Way, main, submit_from_tasks

CONCURRENCY = 64
OPS = 64


def submit(redis_url: str, jobs: int) -> Timed:
    async def run() -> Timed:
        queue = Queue.from_url(redis_url, max_concurrent_ops=OPS)
        return await submit_from_tasks(jobs, lambda: queue.enqueue("job", request=REQUEST))

    return uvloop.run(run())


def work(redis_url: str, jobs: int) -> Timed:
    backlog = Backlog(redis_url, jobs, unfinished="ZCARD saq:default:incomplete")

    async def job(context: object, *, request: str) -> str:
        return backlog.run_job()

    async def run() -> Timed:
        queue = Queue.from_url(redis_url, max_concurrent_ops=OPS)
        worker = Worker(queue, [("job", job)], concurrency=CONCURRENCY)
        return await backlog.time_task(worker.start())

    return uvloop.run(run())


if __name__ == "__main__":
    main("saq", submit=Way(submit, "64 tasks"), work=Way(work, f"concurrency={CONCURRENCY}"))
