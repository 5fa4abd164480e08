# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator"
"""taskiq with taskiq-redis's broker on a stream and a consumer group."""

import uvloop
from stopwatch import REQUEST, Backlog, Timed, Way, main, submit_from_tasks
from taskiq.api import run_receiver_task
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

CONCURRENCY = 64
PREFETCH = 64
READ_COUNT = 1000
CONNECTIONS = 100


def make_broker(redis_url: str) -> RedisStreamBroker:
    results = RedisAsyncResultBackend(
        redis_url,
        result_ex_time=3600,
        max_connection_pool_size=CONNECTIONS,
        serializer=ORJSONSerializer(),
    )
    return (
        RedisStreamBroker(redis_url, xread_count=READ_COUNT, max_connection_pool_size=CONNECTIONS)
        .with_result_backend(results)
        .with_serializer(ORJSONSerializer())
    )


def submit(redis_url: str, jobs: int) -> Timed:
    async def run() -> Timed:
        broker = make_broker(redis_url)

        @broker.task(task_name="job")
        async def job(request: str) -> str:
            raise NotImplementedError

        await broker.startup()
        return await submit_from_tasks(jobs, lambda: job.kiq(REQUEST))

    return uvloop.run(run())


def work(redis_url: str, jobs: int) -> Timed:
    backlog = Backlog(redis_url, jobs, unfinished="XPENDING taskiq taskiq")

    async def run() -> Timed:
        broker = make_broker(redis_url)

        @broker.task(task_name="job")
        async def job(request: str) -> str:
            return backlog.run_job()

        return await backlog.time_task(
            run_receiver_task(
                broker,
                max_async_tasks=CONCURRENCY,
                max_prefetch=PREFETCH,
                validate_params=False,
                run_startup=True,
            )
        )

    return uvloop.run(run())


if __name__ == "__main__":
    main(
        "taskiq-redis",
        submit=Way(submit, "64 tasks"),
        work=Way(work, f"max_async_tasks={CONCURRENCY}"),
    )
