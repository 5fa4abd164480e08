"""What `respool doctor` knows when it judges: facts, each with where it is from, or why it is not known."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from core.settings import Settings


class Unknown(Struct, frozen=True):
    """Nothing is known, for this reason."""

    why: str
    is_down: bool = False  # It was asked, and does not answer.


class Redis(Struct, frozen=True, kw_only=True):
    """The Redis at REDIS_URL, by its own word; of a cluster the primary that is worst off."""

    kind: str  # redis or valkey
    version: tuple[int, ...]
    appends: bool
    appendfsync: str | None  # None: CONFIG GET is not permitted.
    save: str | None
    policy: str
    used_bytes: int
    limit_bytes: int  # 0: there is none.
    machine_bytes: int  # 0: it does not say.
    clients: int
    clients_max: int
    ahead_seconds: float  # Of our clock.
    round_trip_seconds: float


class Worker(Struct, frozen=True):
    """A worker that is alive."""

    name: str
    capacity: int
    upstream: str


class Store(Struct, frozen=True, kw_only=True):
    """What stands in the store."""

    lacking: tuple[str, ...]  # What `respool migrate` would do.
    workers: tuple[Worker, ...] = ()
    lag_entries: int | None = None  # None: no view serves.
    shards: int = 1
    nodes: int = 1  # Servers that it is on: more than one in a cluster.
    idle: tuple[str, ...] = ()  # Primaries that have no shard.
    live_keys: int = 0
    unlimited_keys: int = 0  # Of these, those without --requests-per-minute.
    slowest_run_seconds: float | None = (
        None  # The 99th percentile of the slowest queue's last hour.
    )


class Api(Struct, frozen=True):
    """An API, asked without a key."""

    url: str
    ready: str  # What /readyz says.
    is_ready: bool
    status_without_key: int  # Of /v1/queues.


class Public(Struct, frozen=True):
    """What somebody outside meets at PUBLIC_URL."""

    url: str
    certificate_until: datetime | None  # None: no TLS, or none that can be trusted.
    tls_trouble: str  # Why it cannot be trusted; empty if it can.
    metrics_status: int
    statuses: Mapping[int, int]  # How often each status came, of a burst of requests.


class Rules(Struct, frozen=True):
    """What a Prometheus has of Respool."""

    url: str
    up: tuple[str, ...]  # Targets that are scraped.
    down: tuple[str, ...]
    alerts: Mapping[str, str]  # Each rule's health.
    alertmanagers: int


class Probe(Struct, frozen=True):
    """A try to connect to Redis from where nobody should be able to."""

    address: str
    host: str  # Where the try was made from.
    connected: bool


class Upstream(Struct, frozen=True):
    """The inference server, and how many requests it runs at once."""

    url: str
    server: str
    parallel: int | None  # None: it does not say.
    why: str


class Report(Struct, frozen=True):
    """A file that says what was done, and when."""

    path: str
    at: datetime
    fields: Mapping[str, Any]


class Machine(Struct, frozen=True):
    """This machine, as this process may use it."""

    files_max: int


class Backups(Struct, frozen=True):
    """What lies in BACKUP_DIR."""

    folder: str
    newest: tuple[datetime, ...]  # The newest two, the newer first.


class Facts(Struct, frozen=True, kw_only=True):
    """Everything that is judged."""

    settings: Settings
    now: datetime
    redis: Redis | Unknown
    store: Store | Unknown
    api: Api | Unknown
    public: Public | Unknown
    prometheus: Rules | Unknown
    probe: Probe | Unknown
    upstream: Upstream | Unknown
    calibration: Report | Unknown
    load_test: Report | Unknown
    drill: Report | Unknown
    machine: Machine
    backups: Backups | Unknown
