"""What faults cost: recovery, cancelling, timers, renewals, and work while workers are killed.

    python -m benchmarks.recovery                     all of it, about seven minutes
    python -m benchmarks.recovery --only recovery     one part: recovery, cancel, timers, renewal, chaos

Workers and APIs are real processes, and a kill is a SIGKILL. Times are Redis's, read from the log,
but for the cancel, which ends where no log reaches: at the inference server.
"""

import argparse
import asyncio
import platform
import random
import resource
import statistics
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from typing import Any

import httpx

from benchmarks.latency import free_port
from benchmarks.roles import (
    ENDLESS,
    Role,
    event_of,
    fresh_store,
    now_ms,
    role,
    submit,
    until_alive,
)
from benchmarks.server import BenchmarkRedis
from benchmarks.upstream import MODEL as SLOW_MODEL
from benchmarks.upstream import endless
from consumers.claims import Claims
from consumers.leases import RENEWALS_PER_LEASE, Lease, Leases
from core.commands import Cancel, Claim
from core.events import Claimed, Completed, Enqueued
from core.job import decide
from core.states import Running
from core.store import Claim as Proof
from core.store import EventStore

LEASE_SECONDS = 2
KILLS = 30
CANCELS = 100
TIMERS = 400
TIMERS_SECONDS = 20.0
RUNNING_JOBS = 1_000
RENEWALS = 50
USUAL_LEASE_SECONDS = 30
CHAOS_SECONDS = 20.0
CHAOS_ROUNDS = 3
CHAOS_WORKERS = 4
CHAOS_SLOTS = 4
CHAOS_LATENCY_MS = 200


def main() -> None:
    parts: dict[str, Callable[[str], Coroutine[Any, Any, None]]] = {
        "recovery": recovery,
        "cancel": cancel,
        "timers": timers,
        "renewal": renewal,
        "chaos": chaos,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=parts, help="one part instead of all")
    arguments = parser.parse_args()
    with BenchmarkRedis() as redis:
        print(f"{platform.processor() or platform.machine()}, {redis.version}", flush=True)
        for name, part in parts.items():
            if arguments.only in {None, name}:
                print(f"\n## {name}\n", flush=True)
                asyncio.run(part(redis.url))


def told(what: str, samples: Sequence[float]) -> None:
    """Print how milliseconds are spread."""
    p95 = statistics.quantiles(samples, n=20)[-1]
    print(
        f"{what}: median {statistics.median(samples):,.1f} ms, p95 {p95:,.1f} ms, "
        f"at most {max(samples):,.1f} ms ({len(samples)} samples)",
        flush=True,
    )


async def recovery(redis_url: str) -> None:
    """From SIGKILL of the worker that runs a job to the job's next claim, by another worker."""
    settings = {
        "UPSTREAM_URL": ENDLESS,
        "LEASE_SECONDS": str(LEASE_SECONDS),
        "MAX_DELIVERIES": "100",
    }
    samples_ms: list[float] = []
    async with fresh_store(redis_url) as store:
        with ExitStack() as stack:

            def start() -> Role:
                return stack.enter_context(role("worker", redis_url, **settings))

            workers = {worker.pid: worker for worker in (start(), start())}
            for _ in range(KILLS):
                await until_alive(store, len(workers))
                samples_ms.append(await _recovered_after_ms(store, workers))
                replacement = start()
                workers[replacement.pid] = replacement
    lease_ms = LEASE_SECONDS * 1_000
    told(f"SIGKILL to the next claim, under a lease of {LEASE_SECONDS} s", samples_ms)
    median, longest = statistics.median(samples_ms) - lease_ms, max(samples_ms) - lease_ms
    print(f"that is the lease {median:+,.0f} ms at the median, {longest:+,.0f} ms at the most")


async def _recovered_after_ms(store: EventStore, workers: dict[int, Role]) -> float:
    """Kill whoever runs a new job, at any moment of its renewals; the milliseconds to the next claim."""
    job = await submit(store)
    claimed = await event_of(store, job, Claimed)
    await asyncio.sleep(random.uniform(0, LEASE_SECONDS))
    assert isinstance(claimed.event, Claimed)
    victim = workers.pop(int(claimed.event.worker.rsplit("-", 2)[1]))
    killed_ms = await now_ms(store)
    victim.kill()
    again = await event_of(store, job, Claimed, claimed.version)
    await store.execute(job, Cancel("benchmark"))
    return again.at_ms - killed_ms


async def cancel(redis_url: str) -> None:
    """From POST /cancel of a running job to the inference server's end of the connection."""
    samples_ms = []
    api_url = f"http://127.0.0.1:{(port := free_port())}"
    async with endless() as upstream, fresh_store(redis_url) as store:
        settings = {"UPSTREAM_URL": upstream.url, "UPSTREAM_KIND": "openai"}
        with (
            role("worker", redis_url, **settings),
            role("api", redis_url, API_PORT=str(port)),
        ):
            await until_alive(store, 1)
            async with httpx.AsyncClient(base_url=api_url, trust_env=False) as http:
                await _until_served(http)
                for _ in range(CANCELS):
                    upstream.begun.clear()
                    upstream.closed.clear()
                    job = await submit(store, model=SLOW_MODEL)
                    await upstream.begun.wait()
                    await asyncio.sleep(random.uniform(0.05, 0.15))
                    asked_at = time.perf_counter()
                    await http.post(f"/v1/jobs/{job}/cancel")
                    await upstream.closed.wait()
                    samples_ms.append((upstream.closed_at - asked_at) * 1_000)
    told("cancel to a closed upstream connection", samples_ms)


async def _until_served(http: httpx.AsyncClient) -> None:
    while True:
        try:
            await http.get("/healthz")
            return
        except httpx.HTTPError:
            await asyncio.sleep(0.05)


async def timers(redis_url: str) -> None:
    """How much later than due a delayed job is queued, while little happens, by one API process."""
    async with fresh_store(redis_url) as store:
        port = str(free_port())
        with role("api", redis_url, API_PORT=port):
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                await _until_served(http)
            delays_ms: dict[str, int] = {}
            for _ in range(TIMERS):
                delay_ms = random.randint(10, 3_000)
                delays_ms[await submit(store, delay_ms=delay_ms)] = delay_ms
                await asyncio.sleep(random.expovariate(TIMERS / TIMERS_SECONDS))
            samples_ms = []
            for job, delay_ms in delays_ms.items():
                queued = await event_of(store, job, Enqueued)
                created = (await store.history(job))[0]
                samples_ms.append(queued.at_ms - created.at_ms - delay_ms)
    told("due time to the log entry of `queued`", samples_ms)


async def renewal(redis_url: str) -> None:
    """One renewal of all the leases of a worker that runs a thousand jobs."""
    async with fresh_store(redis_url) as store:
        leases = Leases(store, store.client, "benchmark", float(USUAL_LEASE_SECONDS))
        await asyncio.gather(*(submit(store) for _ in range(RUNNING_JOBS)))
        for delivery in await Claims(store, "benchmark", (), lambda: {"echo"}).take(RUNNING_JOBS):
            job, proof = delivery.head.job, Proof("benchmark", delivery.entry)
            events = decide(job, Claim("benchmark"))
            recorded = await store.append(delivery.job_id, job, events, proof)
            assert isinstance(recorded.job, Running)
            leases.add(Lease(delivery.job_id, recorded.job, proof))
        assert len(leases) == RUNNING_JOBS
        await leases.renew()
        samples_ms = []
        redis_before, ours_before = await _redis_cpu_seconds(store), _own_cpu_seconds()
        for _ in range(RENEWALS):
            started = time.perf_counter()
            await leases.renew()
            samples_ms.append((time.perf_counter() - started) * 1_000)
        redis_ms = (await _redis_cpu_seconds(store) - redis_before) / RENEWALS * 1_000
        ours_ms = (_own_cpu_seconds() - ours_before) / RENEWALS * 1_000
    told(f"one renewal of {RUNNING_JOBS:,} leases", samples_ms)
    every_ms = USUAL_LEASE_SECONDS / RENEWALS_PER_LEASE * 1_000
    print(f"CPU of one renewal: Redis {redis_ms:.1f} ms, the worker {ours_ms:.1f} ms")
    print(
        f"every {every_ms / 1_000:g} s, under a lease of {USUAL_LEASE_SECONDS} s: "
        f"{redis_ms / every_ms:.3%} of Redis's core, {ours_ms / every_ms:.3%} of the worker's"
    )


async def _redis_cpu_seconds(store: EventStore) -> float:
    cpu: dict[str, Any] = await store.client.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def _own_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def chaos(redis_url: str) -> None:
    """Jobs/s of four workers, undisturbed and while one of them is killed, and replaced, every second."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(CHAOS_ROUNDS):
        for kills, measured in rates.items():
            measured.append(await _jobs_per_second(redis_url, kills=kills))
            name = "one killed every second" if kills else "undisturbed"
            print(f"round: {name}: {measured[-1]:,.1f} jobs/s", flush=True)
    calm, disturbed = statistics.median(rates[False]), statistics.median(rates[True])
    print(
        f"{CHAOS_WORKERS} workers with {CHAOS_SLOTS} slots, {CHAOS_LATENCY_MS} ms a job: "
        f"{calm:,.1f} jobs/s, and {disturbed:,.1f} with kills: {disturbed / calm:.0%}",
        flush=True,
    )


async def _jobs_per_second(redis_url: str, *, kills: bool) -> float:
    """What is completed a second, by the log; each job once, or it is an error."""
    settings = {
        "UPSTREAM_URL": f"echo://?latency_ms={CHAOS_LATENCY_MS}",
        "LEASE_SECONDS": str(LEASE_SECONDS),
        "WORKER_CONCURRENCY": str(CHAOS_SLOTS),
        "MAX_DELIVERIES": "100",
    }
    most = CHAOS_WORKERS * CHAOS_SLOTS * CHAOS_SECONDS * 1_000 / CHAOS_LATENCY_MS
    async with fresh_store(redis_url) as store:
        with ExitStack() as stack:

            def start() -> Role:
                return stack.enter_context(role("worker", redis_url, **settings))

            workers = [start() for _ in range(CHAOS_WORKERS)]
            await until_alive(store, CHAOS_WORKERS)
            await asyncio.gather(*(submit(store) for _ in range(round(1.5 * most))))
            from_ms, started = await now_ms(store), time.monotonic()
            for second in range(round(CHAOS_SECONDS)):
                if kills:
                    at = second % CHAOS_WORKERS
                    workers[at].kill()
                    workers[at] = start()
                await asyncio.sleep(max(0.0, started + second + 1 - time.monotonic()))
            to_ms = await now_ms(store)
        completed = await _completed(store, from_ms, to_ms)
        assert len(set(completed)) == len(completed), "a job was completed twice"
        return len(completed) / (to_ms - from_ms) * 1_000


async def _completed(store: EventStore, from_ms: int, to_ms: int) -> list[str]:
    """The jobs of the `completed` events of a time."""
    jobs, position = [], f"{from_ms}-0"
    while entries := await store.feed(0, position):
        position = entries[-1].id
        jobs += [
            entry.subject
            for entry in entries
            if entry.at_ms < to_ms and isinstance(entry.event, Completed)
        ]
    return jobs


if __name__ == "__main__":
    main()
