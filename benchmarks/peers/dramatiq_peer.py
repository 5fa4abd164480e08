# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator"
"""dramatiq: a list of ids and a hash of messages, moved by one Lua script; worker threads."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from stopwatch import REQUEST, Backlog, Timed, Way, main, submit_from_threads

THREADS = 16
SUBMIT_THREADS = 1


def make_broker(redis_url: str) -> RedisBroker:
    broker = RedisBroker(url=redis_url)
    broker.add_middleware(Results(backend=RedisBackend(url=redis_url)))
    return broker


def submit(redis_url: str, jobs: int) -> Timed:
    @dramatiq.actor(broker=make_broker(redis_url), actor_name="job", store_results=True)
    def job(request: str) -> str:
        raise NotImplementedError

    return submit_from_threads(jobs, lambda: job.send(REQUEST), SUBMIT_THREADS)


def work(redis_url: str, jobs: int) -> Timed:
    backlog = Backlog(redis_url, jobs, unfinished="HLEN dramatiq:default.msgs")
    broker = make_broker(redis_url)

    @dramatiq.actor(broker=broker, actor_name="job", store_results=True)
    def job(request: str) -> str:
        return backlog.run_job()

    broker.emit_after("process_boot")
    dramatiq.Worker(broker, worker_threads=THREADS).start()
    return backlog.time_threads()


if __name__ == "__main__":
    main(
        "dramatiq",
        submit=Way(submit, f"{SUBMIT_THREADS} threads"),
        work=Way(work, f"worker_threads={THREADS}"),
    )
