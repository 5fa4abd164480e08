"""A deployment with nothing wrong, for tests to change one thing of."""

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import structs

from cli.doctor.facts import (
    Api,
    Backups,
    Facts,
    Machine,
    Probe,
    Public,
    Redis,
    Report,
    Rules,
    Store,
    Upstream,
    Worker,
)
from core.settings import read_settings

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
GIB = 1024**3
UPSTREAM = "http://ollama:11434"

HEALTHY = Facts(
    settings=read_settings({"LOG_FORMAT": "json", "ARCHIVE_URL": "file:///archive"}),
    now=NOW,
    redis=Redis(
        kind="redis",
        version=(7, 2, 4),
        appends=True,
        appendfsync="everysec",
        save="900 1",
        policy="noeviction",
        used_bytes=GIB,
        limit_bytes=4 * GIB,
        machine_bytes=6 * GIB,
        clients=20,
        clients_max=10_000,
        ahead_seconds=0.002,
        round_trip_seconds=0.001,
    ),
    store=Store(
        lacking=(),
        workers=(Worker("one", 3, UPSTREAM),),
        lag_entries=2,
        live_keys=2,
        unlimited_keys=1,
        slowest_run_seconds=12.0,
    ),
    api=Api("http://gateway:8080", "ready", True, 401),
    public=Public("https://api.example.com", NOW + timedelta(days=60), "", 404, {200: 21, 429: 39}),
    prometheus=Rules(
        "http://prometheus:9090",
        up=("gateway:8080", "worker:5345"),
        down=(),
        alerts={"HighUtilization": "ok", "QueueBuildup": "ok", "HighRejectionRate": "ok"},
        alertmanagers=1,
    ),
    probe=Probe("redis.example.com:6379", "elsewhere", connected=False),
    upstream=Upstream(UPSTREAM, "Ollama", 4, "OLLAMA_NUM_PARALLEL=4 here"),
    calibration=Report(
        "calibration.json", NOW - timedelta(days=3), {"recommended": 3, "upstream": UPSTREAM}
    ),
    load_test=Report("load.json", NOW - timedelta(days=3), {"requests": 9_000, "failures": 0}),
    drill=Report("drill.json", NOW - timedelta(days=3), {"backup": "a.rdb", "differences": []}),
    machine=Machine(65_536),
    backups=Backups("/backup", (NOW - timedelta(hours=2), NOW - timedelta(hours=8))),
)


def but(fact: str, **changes: Any) -> Facts:
    """The healthy deployment, with one fact changed."""
    return structs.replace(HEALTHY, **{fact: structs.replace(getattr(HEALTHY, fact), **changes)})
