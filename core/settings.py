"""Settings from the environment, parsed once, at the edge. All that is wrong is named at once."""

import os
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
from msgspec import Struct

from core.commands import RecoveryPolicy
from core.durability import Durability
from core.errors import Mendable
from core.records import Bounds
from core.redis import check_url

AUTO: Final = "auto"  # As WORKER_CONCURRENCY.
# A queue's name stands in keys, in metrics and in URLs.
QUEUE_NAME: Final = "[A-Za-z0-9._-]{1,64}"


class SettingsError(Mendable):
    """Some variables have values that are not theirs; one line for each."""


class UpstreamKind(StrEnum):
    OPENAI = "openai"
    OLLAMA = "ollama"
    ECHO = "echo"


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Settings(Struct, frozen=True, kw_only=True):
    """Every setting; a field's name in capitals is its variable."""

    redis_url: str | None = None  # None: embedded, in respool_data_dir.
    respool_data_dir: Path = Path(".respool")
    api_host: str = "127.0.0.1"
    api_port: int = 8080
    worker_host: str = "127.0.0.1"
    worker_port: int = 5345
    worker_concurrency: int | None = 4  # None: `auto`, what was measured.
    worker_queues: tuple[str, ...] = ()  # Empty: every queue.
    upstream_url: str | None = None
    upstream_kind: UpstreamKind | None = None  # None: found out.
    upstream_api_key: str | None = None
    trusted_proxies: tuple[str, ...] = ()  # Whose word on a client's address and scheme is taken.
    openai_api_key_required: bool = False
    openai_api_key: str | None = None  # The operator's own key; there may be more, in the store.
    lease_seconds: int = 30
    shutdown_grace_seconds: int = 30
    queue_limit: int = 1_000
    max_attempts: int = 3
    max_deliveries: int = 5
    job_timeout_seconds: int = 600
    sync_timeout_seconds: int = 280
    stream_limit: int = 5_000  # Open at once, in one API process.
    stream_stall_seconds: int = 30  # How long the reader of one may take nothing.
    retention_hours: int = 24
    backup_dir: Path = Path("backups")
    archive_url: str | None = None  # None: in respool_data_dir for an embedded store, else none.
    max_body_bytes: int = 8 * 1024 * 1024
    body_timeout_seconds: int = 60
    recovery_policy: RecoveryPolicy = RecoveryPolicy.REQUEUE
    durability: Durability = Durability.EVERYSEC
    log_format: LogFormat = LogFormat.CONSOLE
    log_level: LogLevel = LogLevel.INFO
    log_content: bool = False  # Whether requests, answers and errors' texts are logged.

    @property
    def lease_ms(self) -> int:
        return self.lease_seconds * 1_000

    def bounds(self, patience_seconds: float) -> Bounds:
        """What the store takes and keeps under these settings."""
        return Bounds(
            waiting_max=self.queue_limit,
            scheduled_max=10 * self.queue_limit,
            retention_ms=self.retention_hours * 3_600_000,
            patience_seconds=patience_seconds,
        )


# What a number may be, inclusive. All but ports start at 1, as 0 would stop the machine.
_RANGES: Mapping[str, tuple[int, int]] = {
    "api_port": (0, 65_535),
    "worker_port": (0, 65_535),
    "worker_concurrency": (1, 10_000),
    "lease_seconds": (1, 3_600),
    "shutdown_grace_seconds": (0, 86_400),
    "queue_limit": (1, 10_000_000),
    "max_attempts": (1, 100),
    "max_deliveries": (1, 100),
    "job_timeout_seconds": (1, 86_400),
    "sync_timeout_seconds": (1, 86_400),
    "stream_limit": (1, 1_000_000),
    "stream_stall_seconds": (1, 3_600),
    "retention_hours": (1, 8_760),
    "max_body_bytes": (1_024, 64 * 1024 * 1024),
    "body_timeout_seconds": (1, 3_600),
}


_YES_OR_NO: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_DIGITS_MAX: Final = 20  # More are no number of ours, and slow to read.

_SCHEMES: Mapping[str, tuple[str, ...]] = {
    "redis_url": ("redis://", "rediss://", "unix://", "redis-cluster://", "rediss-cluster://"),
    "upstream_url": ("http://", "https://", "echo:"),
    "archive_url": ("file:///", "s3://"),
}


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read all settings; an empty variable counts as absent.

    Raises SettingsError, which names every variable that is wrong, what it got and what it takes.
    """
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for field in msgspec.structs.fields(Settings):
        text = environment.get(field.name.upper(), "").strip()
        if not text:
            continue
        try:
            values[field.name] = _parse(field.name, field.type, text)
        except ValueError as error:
            shown = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text)  # A URL may hold a password.
            shown = "***" if field.name == "openai_api_key" else shown
            wrong.append(f"{field.name.upper()}={shown!r}: {error}")
    if wrong:
        raise SettingsError("\n".join(wrong))
    return Settings(**values)


def _parse(name: str, kind: Any, text: str) -> Any:
    if name == "worker_concurrency" and text == AUTO:
        return None
    if name in _RANGES:
        low, high = _RANGES[name]
        is_number = text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
        if not is_number or not low <= int(text) <= high:
            other = f", or {AUTO}" if name == "worker_concurrency" else ""
            raise ValueError(f"takes a whole number from {low} to {high}{other}")
        return int(text)
    if name in _SCHEMES and not text.startswith(_SCHEMES[name]):
        raise ValueError(f"takes a URL that begins with {' or '.join(_SCHEMES[name])}")
    if kind is bool:
        if text.lower() not in _YES_OR_NO:
            raise ValueError("takes true or false")
        return _YES_OR_NO[text.lower()]
    if name == "openai_api_key" and not re.fullmatch(r"[!-~]+", text):
        raise ValueError("takes printable ASCII without spaces, as it is sent in a header")
    if name == "redis_url":
        check_url(text)
    if name in _LISTS:
        return tuple(_LISTS[name](part.strip()) for part in text.split(",") if part.strip())
    choices = [one for one in (kind, *get_args(kind)) if isinstance(one, type)]
    for choice in choices:
        if issubclass(choice, StrEnum):
            if text not in set(choice):
                raise ValueError(f"takes one of {', '.join(choice)}")
            return choice(text)
        if issubclass(choice, Path):
            return Path(text)
    return text


def _queue(text: str) -> str:
    if not re.fullmatch(QUEUE_NAME, text):
        raise ValueError(
            "takes names of A-Z, a-z, 0-9, '.', '_' and '-', 64 characters at most, "
            "with commas between them"
        )
    return text


def _network(text: str) -> str:
    try:
        return str(ip_network(text) if "/" in text else ip_address(text))
    except ValueError as error:
        raise ValueError(
            "takes addresses and networks with commas between them, such as 10.0.0.7,192.168.0.0/16; "
            f"{error}"
        ) from error


# Settings with commas in them, and how each part is read.
_LISTS: Final[Mapping[str, Callable[[str], str]]] = {
    "worker_queues": _queue,
    "trusted_proxies": _network,
}
