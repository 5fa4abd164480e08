"""What the guide's checklist does not ask and should. Pure."""

from typing import Final

from cli.doctor.facts import Facts, Public, Redis, Store, Upstream
from cli.doctor.verdict import Box, Said, failed, judged, passed, warned
from core.connections import CONNECTIONS_MAX

_REFUSING: Final = 0.85  # Of maxmemory: from there on new jobs are refused.
_FILLING: Final = 0.70
_OF_MACHINE: Final = 0.70
_LAG_ENTRIES: Final = 1_000
_OLDEST: Final = {"redis": (7, 0), "valkey": (8, 0)}
_SKEW_WARN_SECONDS: Final = 1.0
_SKEW_FAIL_SECONDS: Final = 60.0
_MB: Final = 1_000_000
_NAME_REDIS: Final = "name it: REDIS_URL"


def eviction(facts: Facts) -> Said:
    """Redis never deletes what it was given."""

    def judge(redis: Redis) -> Said:
        seen = f"maxmemory-policy {redis.policy}"
        if redis.policy == "noeviction":
            return passed(seen)
        return failed(f"{seen}, which deletes jobs when memory is full", "set noeviction")

    return judged(facts.redis, judge, _NAME_REDIS)


def memory(facts: Facts) -> Said:
    """There is room for more jobs, and for the copy that a fork needs."""

    def judge(redis: Redis) -> Said:
        if not redis.limit_bytes:
            return warned(f"{redis.used_bytes / _MB:,.0f} MB used, no maxmemory", "set maxmemory")
        share = redis.used_bytes / redis.limit_bytes
        seen = f"{share:.0%} of maxmemory used ({redis.used_bytes / _MB:,.0f} MB)"
        if share >= _REFUSING:
            return failed(
                f"{seen}: new jobs are refused", "raise maxmemory, or lower RETENTION_HOURS"
            )
        of_machine = redis.limit_bytes / redis.machine_bytes if redis.machine_bytes else 0.0
        if of_machine > _OF_MACHINE:
            return warned(
                f"{seen}; maxmemory is {of_machine:.0%} of the machine's memory",
                "leave room for the pages that a backup copies: 70 % at most",
            )
        return warned(seen, "raise maxmemory soon") if share >= _FILLING else passed(seen)

    return judged(facts.redis, judge, _NAME_REDIS)


def versions(facts: Facts) -> Said:
    """Redis can what Respool needs of it."""

    def judge(redis: Redis) -> Said:
        seen = f"{redis.kind} {'.'.join(map(str, redis.version))}"
        oldest = _OLDEST.get(redis.kind, (7, 0))
        if redis.version >= oldest:
            return passed(seen)
        return failed(seen, f"use {redis.kind} {'.'.join(map(str, oldest))} or newer")

    return judged(facts.redis, judge, _NAME_REDIS)


def clock(facts: Facts) -> Said:
    """Our clock and Redis's say the same."""

    def judge(redis: Redis) -> Said:
        # The answer is half a round trip old; no difference that is less than that can be seen.
        skew = max(0.0, abs(redis.ahead_seconds) - redis.round_trip_seconds / 2)
        seen = f"{abs(redis.ahead_seconds):.3f} s apart, seen over {redis.round_trip_seconds * 1_000:.1f} ms"
        if skew <= _SKEW_WARN_SECONDS:
            return passed(seen)
        fix = "run NTP on both machines"
        return failed(seen, fix) if skew > _SKEW_FAIL_SECONDS else warned(seen, fix)

    return judged(facts.redis, judge, _NAME_REDIS)


def migrations(facts: Facts) -> Said:
    """The store has what this release needs."""

    def judge(store: Store) -> Said:
        if store.lacking:
            return failed(f"lacks {'; '.join(store.lacking)}", "respool migrate")
        return passed("the store lacks nothing")

    return judged(facts.store, judge, _NAME_REDIS)


def worker(facts: Facts) -> Said:
    """Somebody runs jobs."""

    def judge(store: Store) -> Said:
        if not store.workers:
            return failed("no worker is alive", "start one: respool worker")
        slots = sum(one.capacity for one in store.workers)
        return passed(f"{len(store.workers)} workers with {slots} slots are alive")

    return judged(facts.store, judge, _NAME_REDIS)


def views(facts: Facts) -> Said:
    """Lists and figures are of now."""

    def judge(store: Store) -> Said:
        if store.lag_entries is None:
            return failed("no view serves", "respool migrate, and run respool projector")
        seen = f"the views are {store.lag_entries:,} events behind"
        if store.lag_entries > _LAG_ENTRIES:
            return warned(seen, "see that a respool projector runs, and what its log says")
        return passed(seen)

    return judged(facts.store, judge, _NAME_REDIS)


def files(facts: Facts) -> Said:
    """An API may have as many connections open as it may have streams, and Redis as many clients."""
    needed = facts.settings.stream_limit + CONNECTIONS_MAX + 100
    seen = f"{facts.machine.files_max:,} open files here, {needed:,} for STREAM_LIMIT={facts.settings.stream_limit:,}"
    if facts.machine.files_max < needed:
        return warned(
            seen,
            f"ulimit -n {needed} (LimitNOFILE, or ulimits in compose), or a lower STREAM_LIMIT",
        )
    if isinstance(facts.redis, Redis) and facts.redis.clients > facts.redis.clients_max * _FILLING:
        redis = facts.redis
        return warned(f"{redis.clients} of Redis's {redis.clients_max} clients", "raise maxclients")
    return passed(seen)


def upstream(facts: Facts) -> Said:
    """The inference server runs as many requests at once as it is sent."""

    def judge(server: Upstream) -> Said:
        workers = facts.store.workers if isinstance(facts.store, Store) else ()
        here = [one.capacity for one in workers if one.upstream == server.url]
        sent = sum(here) if here else facts.settings.worker_concurrency
        if sent is None:
            return warned(
                f"{server.server}; WORKER_CONCURRENCY=auto, and no worker on {server.url} says what that is",
                "start it",
            )
        if server.parallel is None:
            return warned(f"{server.server}: {server.why}; it is sent {sent} at once", server.why)
        seen = f"{server.server} runs {server.parallel} at once ({server.why}), and is sent {sent}"
        if server.parallel < sent:
            return failed(
                seen,
                "raise it (OLLAMA_NUM_PARALLEL, --parallel, --max-num-seqs) or lower WORKER_CONCURRENCY: what "
                "is sent and waits there has taken a slot, and its time limit runs",
            )
        return passed(seen)

    return judged(facts.upstream, judge, "name it: UPSTREAM_URL")


def grace(facts: Facts) -> Said:
    """A worker that is told to stop may finish what it runs."""
    allowed = facts.settings.shutdown_grace_seconds
    run = facts.store.slowest_run_seconds if isinstance(facts.store, Store) else None
    remedy = "raise SHUTDOWN_GRACE_SECONDS, and stop_grace_period above it, or accept that long jobs start anew"
    if run is None:
        return warned(
            f"SHUTDOWN_GRACE_SECONDS={allowed}; no run time is known of the last hour", remedy
        )
    seen = f"SHUTDOWN_GRACE_SECONDS={allowed}; 99 % of jobs run for less than {run:.1f} s"
    return passed(seen) if run <= allowed else warned(seen, remedy)


def archive(facts: Facts) -> Said:
    """The log is trimmed, once it is archived."""
    if facts.settings.archive_url is not None:
        return passed(f"ARCHIVE_URL={facts.settings.archive_url}")
    if facts.settings.redis_url is None:
        return passed("beside the store of `respool up`")
    return warned(
        "no ARCHIVE_URL: nothing is trimmed, and Redis grows with its log", "set ARCHIVE_URL"
    )


def metrics_hidden(facts: Facts) -> Said:
    """/metrics is for Prometheus alone."""

    def judge(public: Public) -> Said:
        seen = f"{public.url}/metrics: {public.metrics_status}"
        if public.metrics_status == 200:
            return failed(seen, "have the proxy not pass it on")
        return passed(seen)

    return judged(facts.public, judge, "name it: PUBLIC_URL=https://…")


def spread(facts: Facts) -> Said:
    """Each node of a cluster has a part of the work."""

    def judge(store: Store) -> Said:
        seen = f"{store.shards} shards on {store.nodes} nodes"
        if store.idle:
            return warned(
                f"{seen}; none on {', '.join(store.idle)}",
                "move the slot of a shard there (docs/cluster.md); their number is fixed",
            )
        return passed(seen if store.nodes > 1 else "one server")

    return judged(facts.store, judge, _NAME_REDIS)


MORE: Final = (
    Box("eviction", "Redis deletes nothing", eviction),
    Box("memory", "memory head-room", memory),
    Box("versions", "versions", versions),
    Box("spread", "shards on every node", spread),
    Box("clock", "clocks agree", clock),
    Box("migrations", "migrations applied", migrations),
    Box("worker", "a worker is alive", worker),
    Box("views", "views keep up", views),
    Box("files", "open files", files),
    Box("upstream", "parallel requests of the inference server", upstream),
    Box("grace", "time to finish at a stop", grace),
    Box("archive", "log archived and trimmed", archive),
    Box("metrics", "/metrics not public", metrics_hidden),
)
