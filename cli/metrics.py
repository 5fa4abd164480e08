"""Which metrics there are, and what they mean. Their names are users': dashboards and alerts have them.

Figures of the whole cluster (`proxy_*`, `redis_*`, `log_*`, `projection_*`) are the same in every API and
worker: of several processes take the greatest, `sum(max by (queue) (proxy_queued_jobs))`. What is counted
as it happens (`jobs_*`, `job_*`, `http_*`) is counted by one process each: `sum(rate(jobs_total[5m]))`.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from cli.exposition import Exposition, Gauge
from cli.figures import BOUNDS_SECONDS, DEFAULT_QUEUE, JobFigures
from consumers.worker import Worker
from core.effects import Counter
from core.errors import StoreError
from core.roster import GpuMemory
from core.store import EventStore
from core.tally import OTHERS, Counts, Durations
from projections.reading.cluster import Cluster, cluster

log = logging.getLogger(__name__)

QUEUES_MAX: Final = 100  # With series of their own: the deepest.
LOOK_SECONDS: Final = 5.0  # Prometheus waits for 10: what Redis does not say by then is left out.


class RequestTallies:
    """What an API counts of requests."""

    def __init__(self) -> None:
        self.counts = Counts("method", "route", "code")
        self.durations = Durations(BOUNDS_SECONDS, "method", "route")


def api_exposition(store: EventStore, figures: JobFigures, requests: RequestTallies) -> Exposition:
    """What an API says."""
    exposition = Exposition()
    _show_cluster(exposition, store)
    _show_jobs(exposition, figures)
    exposition.counts(
        "http_requests", "Requests by method, route and status code.", requests.counts
    )
    exposition.durations(
        "http_request_duration",
        "From a request to the end of its answer, streams included.",
        requests.durations,
    )
    return exposition


def worker_exposition(store: EventStore, figures: JobFigures, worker: Worker) -> Exposition:
    """What a worker says."""
    exposition = Exposition()
    _show_cluster(exposition, store)
    _show_jobs(exposition, figures)
    name = {"worker": worker.identity.name}
    exposition.gauge(
        "worker_running_jobs",
        "Jobs that this worker runs now.",
        lambda: [(name, len(worker.leases))],
    )
    exposition.gauge(
        "worker_gpu_memory",
        "Memory of this worker's GPUs, used (by whatever process) and in all.",
        lambda: _gpu_gauge(worker.gpu_memory()),
        "By",
    )
    return exposition


def _gpu_gauge(memory: Iterable[GpuMemory]) -> Gauge:
    for one in memory:
        yield {"gpu": str(one.index), "kind": "used"}, one.used_bytes
        yield {"gpu": str(one.index), "kind": "total"}, one.total_bytes


def _show_jobs(exposition: Exposition, figures: JobFigures) -> None:
    exposition.counts("jobs_submitted", "Jobs accepted here.", figures.submitted)
    exposition.counts("jobs", "Jobs whose end was written here, by how they ended.", figures.ended)
    exposition.counts(
        "job_attempts",
        "Attempts whose end was written here, by what came of them.",
        figures.attempts,
    )
    exposition.durations(
        "job_wait", "From when a job could be claimed to its claim by this worker.", figures.waits
    )
    exposition.durations(
        "job_duration", "From the claim of a job by this worker to its end.", figures.durations
    )
    exposition.durations(
        "job_time_to_first_token",
        "From the call of the inference server to its first output.",
        figures.first_tokens,
    )


def _show_cluster(exposition: Exposition, store: EventStore) -> None:
    known = _Known(store)
    exposition.before(known.look)
    for name, about, counter in (
        ("proxy_active_jobs", "Jobs that run now, in the whole cluster.", Counter.RUNNING),
        (
            "proxy_queued_jobs",
            "Jobs that wait for a worker, in the whole cluster.",
            Counter.WAITING,
        ),
        ("proxy_scheduled_jobs", "Jobs that are not due yet, in all.", Counter.SCHEDULED),
    ):
        exposition.gauge(name, about, lambda counter=counter: known.depths(counter))  # type: ignore[misc]
    exposition.gauge("proxy_capacity", "Jobs at once, of each living worker.", known.capacity)
    exposition.gauge("proxy_workers", "Workers that are alive.", known.workers)
    exposition.gauge("redis_memory_used", "Memory that Redis uses.", known.memory_used, "By")
    exposition.gauge(
        "redis_memory_max",
        "Redis's maxmemory; absent without one.",
        known.memory_max,
        "By",
    )
    exposition.gauge("log_length_events", "Events in the log, of all shards.", known.log_length)
    exposition.gauge(
        "projection_lag_events",
        "Events that the views have not folded yet; absent while there are no views.",
        known.lag,
    )
    exposition.gauge("store_up", "1 if Redis answered for this scrape.", known.is_up)


class _Known:
    """The cluster as it was looked up for this scrape. Nothing of it is shown when Redis does not answer."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._cluster: Cluster | None = None
        self._queues = {DEFAULT_QUEUE}  # Shown from when they had a job: an absent 0 is no figure.

    async def look(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                self._cluster = await cluster(self._store)
        except (StoreError, TimeoutError) as error:
            self._cluster = None
            log.debug("no figures of the cluster: %s", error)

    def depths(self, counter: Counter) -> Gauge:
        if self._cluster is None:
            return
        depths = self._cluster.depths
        deepest = sorted(depths, key=lambda queue: (-sum(depths[queue].values()), queue))
        shown, rest = deepest[:QUEUES_MAX], deepest[QUEUES_MAX:]
        self._queues.update(shown[: QUEUES_MAX - len(self._queues)])
        for queue in {*shown, *self._queues}.difference(rest):
            yield {"queue": queue}, depths.get(queue, {}).get(counter, 0)
        if rest:
            yield {"queue": OTHERS}, sum(depths[queue][counter] for queue in rest)

    def capacity(self) -> Gauge:
        if self._cluster is not None:
            for worker, jobs in self._cluster.capacity.items():
                yield {"worker": worker}, jobs

    def workers(self) -> Gauge:
        if self._cluster is not None:
            yield {}, len(self._cluster.capacity)

    def memory_used(self) -> Gauge:
        if self._cluster is not None:
            yield {}, self._cluster.memory.used

    def memory_max(self) -> Gauge:
        if self._cluster is not None and self._cluster.memory.maximum is not None:
            yield {}, self._cluster.memory.maximum

    def log_length(self) -> Gauge:
        if self._cluster is not None:
            yield {}, self._cluster.log_entries

    def lag(self) -> Gauge:
        if self._cluster is not None and self._cluster.lag_entries is not None:
            yield {}, self._cluster.lag_entries

    def is_up(self) -> Gauge:
        yield {}, int(self._cluster is not None)
