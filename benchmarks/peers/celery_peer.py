# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator"
"""celery on Redis lists."""

import threading

from celery import Celery
from celery.worker import state
from stopwatch import REQUEST, Backlog, Timed, Way, main, submit_from_threads

POOL = "threads"
THREADS = 16
PREFETCH = 64
SUBMIT_THREADS = 1
LATE = True


def submit(redis_url: str, jobs: int) -> Timed:
    app = Celery(broker=redis_url)
    app.conf.broker_pool_limit = SUBMIT_THREADS
    return submit_from_threads(jobs, lambda: app.send_task("job", (REQUEST,)), SUBMIT_THREADS)


def work(redis_url: str, jobs: int) -> Timed:
    backlog = Backlog(redis_url, jobs, unfinished="HLEN unacked")
    app = Celery(broker=redis_url, backend=redis_url)
    app.conf.update(
        worker_prefetch_multiplier=PREFETCH,
        worker_disable_rate_limits=True,
        worker_hijack_root_logger=False,
        task_acks_late=LATE,
        worker_enable_remote_control=False,
    )

    @app.task(name="job")
    def job(request: str) -> str:
        return backlog.run_job()

    app.finalize()
    timed: list[Timed] = []

    def watch() -> None:
        timed.append(backlog.time_threads())
        state.should_stop = 0

    threading.Thread(target=watch, daemon=True).start()
    app.Worker(
        pool=POOL,
        concurrency=THREADS,
        loglevel="ERROR",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    ).start()
    return timed[0]


if __name__ == "__main__":
    main(
        "celery",
        submit=Way(submit, f"{SUBMIT_THREADS} threads"),
        work=Way(work, f"{POOL}, {THREADS}"),
    )
