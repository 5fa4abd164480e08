"""The thirteen boxes of the deployment guide's checklist, in its order. Pure."""

from datetime import timedelta
from typing import Final

from cli.doctor.facts import Api, Backups, Facts, Probe, Public, Redis, Report, Rules, Store
from cli.doctor.verdict import Box, Said, failed, judged, passed, warned

_GIB: Final = 1024**3
_ALERTS: Final = ("HighUtilization", "QueueBuildup", "HighRejectionRate")  # The guide's.
_OLD: Final = timedelta(days=90)  # Of a measurement: models, drivers and loads change.
_BACKUP_AGE: Final = timedelta(hours=6)  # The guide's schedule.
_CERTIFICATE_LEFT: Final = timedelta(days=14)


def concurrency(facts: Facts) -> Said:
    """WORKER_CONCURRENCY was computed, and every worker has at most that."""

    def judge(report: Report) -> Said:
        fits = int(report.fields["recommended"])
        seen = f"{fits}, measured on {report.at:%Y-%m-%d} ({report.path})"
        if facts.now - report.at > _OLD:
            return warned(seen, "measure again: respool calibrate")
        workers = facts.store.workers if isinstance(facts.store, Store) else ()
        here = [one for one in workers if one.upstream == report.fields["upstream"]]
        if not here:
            return warned(f"{seen}; no worker on {report.fields['upstream']} is alive", "start it")
        more = [f"{one.name} has {one.capacity}" for one in here if one.capacity > fits]
        if more:
            return failed(f"{seen}; {', '.join(more)}", f"set WORKER_CONCURRENCY={fits}")
        return passed(f"{seen}; {len(here)} workers have no more")

    return judged(facts.calibration, judge, "measure it: respool calibrate")


def persistence(facts: Facts) -> Said:
    """Redis appends to disk, and has a memory limit."""

    def judge(redis: Redis) -> Said:
        how = f"appendonly {'yes' if redis.appends else 'no'}, appendfsync {redis.appendfsync or 'not shown'}"
        seen = f"{how}, save {redis.save or 'none'}, maxmemory {redis.limit_bytes / _GIB:.1f} GiB"
        if not redis.appends:
            return failed(seen, "CONFIG SET appendonly yes, and redis.conf for good")
        if redis.appendfsync == "no":
            return failed(seen, "CONFIG SET appendfsync everysec, and redis.conf for good")
        if not redis.limit_bytes:
            return failed(
                f"{how}, no maxmemory: the system ends Redis when memory is full",
                "set maxmemory to 70 % of what the machine or container has",
            )
        if redis.appendfsync is None:
            return warned(seen, "see for yourself that appendfsync is everysec or always")
        return passed(seen)

    return judged(facts.redis, judge, "name it: REDIS_URL")


def health(facts: Facts) -> Said:
    """Every service says how it is, and is well."""

    def judge(api: Api) -> Said:
        seen = f"{api.url}/readyz: {api.ready}"
        if not api.is_ready:
            return failed(seen, "that is the reason; see docs/runbooks.md")
        if isinstance(facts.prometheus, Rules) and facts.prometheus.down:
            return failed(f"{seen}; down: {', '.join(facts.prometheus.down)}", "start them")
        if isinstance(facts.store, Store) and not facts.store.workers:
            return failed(f"{seen}; no worker is alive", "start one: respool worker")
        if not isinstance(facts.store, Store):
            return warned(f"{seen}; workers: {facts.store.why}", "name the store: REDIS_URL")
        return passed(f"{seen}; heartbeats of {len(facts.store.workers)} workers")

    return judged(facts.api, judge, "name the API: RESPOOL_URL")


def tls(facts: Facts) -> Said:
    """What is public is encrypted."""

    def judge(public: Public) -> Said:
        if public.tls_trouble:
            return failed(
                f"{public.url}: {public.tls_trouble}", "a certificate that clients can check"
            )
        if public.certificate_until is None:
            return failed(
                f"{public.url} has no TLS: keys and prompts are readable",
                "put a proxy with TLS in front",
            )
        left = public.certificate_until - facts.now
        seen = f"{public.url}, a certificate that is good for {left.days} more days"
        return passed(seen) if left > _CERTIFICATE_LEFT else failed(seen, "renew it")

    return judged(facts.public, judge, "name it: PUBLIC_URL=https://…")


def keys(facts: Facts) -> Said:
    """Nobody gets in without a key."""

    def judge(api: Api) -> Said:
        seen = f"{api.url}/v1/queues without a key: {api.status_without_key}"
        if api.status_without_key == 401:
            return passed(seen)
        return failed(
            seen, "set OPENAI_API_KEY_REQUIRED=true, and make keys: respool keys make NAME"
        )

    return judged(facts.api, judge, "name the API: RESPOOL_URL")


def logs(facts: Facts) -> Said:
    """Logs are for machines."""
    seen = f"LOG_FORMAT={facts.settings.log_format} in this environment"
    if facts.settings.log_format == "json":
        return passed(seen)
    return warned(
        seen, "set LOG_FORMAT=json for every service, and run the doctor with their settings"
    )


def monitoring(facts: Facts) -> Said:
    """Prometheus scrapes it."""

    def judge(rules: Rules) -> Said:
        if not rules.up:
            return failed(
                f"{rules.url} has no target of Respool that is up", "see deploy/prometheus"
            )
        return passed(f"{rules.url} scrapes {', '.join(rules.up)}")

    return judged(facts.prometheus, judge, "name it: PROMETHEUS_URL")


def alerts(facts: Facts) -> Said:
    """The guide's alerts are loaded, and somebody hears of them."""

    def judge(rules: Rules) -> Said:
        lacking = [name for name in _ALERTS if name not in rules.alerts]
        ill = [name for name, health in rules.alerts.items() if health not in {"ok", "unknown"}]
        if lacking:
            return failed(
                f"{rules.url} has no {', '.join(lacking)}", "load deploy/prometheus/alerts.yml"
            )
        if ill:
            return failed(f"{rules.url} cannot evaluate {', '.join(ill)}", "see its /rules page")
        if not rules.alertmanagers:
            return failed(
                f"{len(rules.alerts)} alerts, and no Alertmanager: nobody hears of them",
                "see deploy/alertmanager",
            )
        return passed(f"{len(rules.alerts)} alerts, {rules.alertmanagers} Alertmanagers")

    return judged(facts.prometheus, judge, "name it: PROMETHEUS_URL")


def load_tested(facts: Facts) -> Said:
    """A load test was run lately, and passed."""

    def judge(report: Report) -> Said:
        seen = f"{report.fields['requests']:,} requests on {report.at:%Y-%m-%d}, {report.fields['failures']:,} failed"
        if not report.fields["requests"] or report.fields["failures"]:
            return failed(f"{seen} ({report.path})", "see why, and run it again")
        if facts.now - report.at > _OLD:
            return warned(f"{seen} ({report.path})", "run it again")
        return passed(f"{seen} ({report.path})")

    return judged(
        facts.load_test,
        judge,
        "run one, and name its report: LOAD_REPORT=PATH (docs/load-testing.md)",
    )


def backed_up(facts: Facts) -> Said:
    """Backups are made, again and again."""

    def judge(backups: Backups) -> Said:
        again = "have one made: respool backup --every 6h"
        if not backups.newest:
            return failed(f"there is none in {backups.folder}", again)
        age = facts.now - backups.newest[0]
        seen = f"the newest in {backups.folder} is {_hours(age)} old"
        if age > 2 * _BACKUP_AGE:
            return failed(seen, again)
        if len(backups.newest) == 1:
            return warned(
                f"{seen}, and the only one: nothing shows that there will be a next", again
            )
        return passed(f"{seen}, the one before {_hours(facts.now - backups.newest[1])}")

    return judged(facts.backups, judge, "name the folder: BACKUP_DIR")


def _hours(age: timedelta) -> str:
    return f"{age.total_seconds() / 3_600:.1f} h"


def rehearsed(facts: Facts) -> Said:
    """The way back is written down (docs/backup.md), and somebody has gone it."""

    def judge(report: Report) -> Said:
        seen = f"{report.fields['backup']} restored on {report.at:%Y-%m-%d}"
        if report.fields["differences"]:
            return failed(
                f"{seen}, and is not as its log says", "respool replay repair there; see why"
            )
        if facts.now - report.at > _OLD:
            return warned(seen, "rehearse it again")
        return passed(f"{seen} and verified ({report.path})")

    remedy = "go through docs/backup.md once, on an empty Redis: respool restore … --json > FILE; RESTORE_REPORT=FILE"
    return judged(facts.drill, judge, remedy)


def isolated(facts: Facts) -> Said:
    """Redis cannot be reached from outside."""

    def judge(probe: Probe) -> Said:
        seen = f"from {probe.host} to {probe.address}"
        if probe.connected:
            return failed(f"{seen}: connected", "put Redis into an internal network")
        return passed(f"{seen}: no connection")

    remedy = "run this on a machine outside, with PROBE_REDIS=HOST:PORT of Redis as it would be seen there"
    return judged(facts.probe, judge, remedy)


def limited(facts: Facts) -> Said:
    """Who asks too often is told so."""

    def judge(public: Public) -> Said:
        asked = sum(public.statuses.values())
        refused = public.statuses.get(429, 0)
        if refused:
            return passed(f"{public.url}: {refused} of {asked} requests at once got 429")
        return failed(
            f"{public.url}: none of {asked} requests at once got 429",
            "limit requests by address there (nginx: limit_req)",
        )

    store = facts.store
    if isinstance(store, Store) and store.live_keys and not store.unlimited_keys:
        return passed(f"each of {store.live_keys} API keys has --requests-per-minute")
    return judged(facts.public, judge, "name it: PUBLIC_URL; or limit every key: respool keys make")


GUIDE: Final = (
    Box("concurrency", "WORKER_CONCURRENCY computed and set", concurrency),
    Box("persistence", "Redis persistent, with a memory limit", persistence),
    Box("health", "health checks of all services", health),
    Box("tls", "TLS on public endpoints", tls),
    Box("keys", "API keys required", keys),
    Box("logs", "structured logs", logs),
    Box("monitoring", "Prometheus scrapes", monitoring),
    Box("alerts", "alerts on what matters", alerts),
    Box("load", "load tested", load_tested),
    Box("backup", "automatic backups of Redis", backed_up),
    Box("recovery", "recovery documented and rehearsed", rehearsed),
    Box("isolation", "Redis not reachable from outside", isolated),
    Box("rate-limit", "rate limit at the gateway", limited),
)
