"""Settings come from the environment; all that is wrong is named at once, with what it takes."""

from pathlib import Path

import pytest

from core.commands import RecoveryPolicy
from core.durability import Durability
from core.settings import (
    LogFormat,
    LogLevel,
    Settings,
    SettingsError,
    UpstreamKind,
    read_settings,
)

RANGES = {
    "API_PORT": (0, 65_535),
    "WORKER_PORT": (0, 65_535),
    "WORKER_CONCURRENCY": (1, 10_000),
    "LEASE_SECONDS": (1, 3_600),
    "SHUTDOWN_GRACE_SECONDS": (0, 86_400),
    "QUEUE_LIMIT": (1, 10_000_000),
    "MAX_ATTEMPTS": (1, 100),
    "MAX_DELIVERIES": (1, 100),
    "JOB_TIMEOUT_SECONDS": (1, 86_400),
    "SYNC_TIMEOUT_SECONDS": (1, 86_400),
    "RETENTION_HOURS": (1, 8_760),
    "MAX_BODY_BYTES": (1_024, 67_108_864),
    "BODY_TIMEOUT_SECONDS": (1, 3_600),
    "STREAM_LIMIT": (1, 1_000_000),
    "STREAM_STALL_SECONDS": (1, 3_600),
}
ENUMS = {
    "UPSTREAM_KIND": (UpstreamKind, "openai, ollama, echo"),
    "RECOVERY_POLICY": (RecoveryPolicy, "requeue, fail"),
    "DURABILITY": (Durability, "everysec, always, replicated"),
    "LOG_FORMAT": (LogFormat, "json, console"),
    "LOG_LEVEL": (LogLevel, "debug, info, warning, error"),
}


def value_of(name: str, text: str) -> object:
    return getattr(read_settings({name: text}), name.lower())


def complaint(**environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read_settings(environment)
    return str(caught.value)


def test_without_any_variable_every_setting_has_its_default() -> None:
    assert read_settings({}) == Settings()


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = Settings()
    assert settings.redis_url is None
    assert settings.respool_data_dir == Path(".respool")
    assert (settings.api_host, settings.api_port) == ("127.0.0.1", 8080)
    assert (settings.worker_host, settings.worker_port) == ("127.0.0.1", 5345)
    assert settings.worker_queues == ()
    assert (settings.upstream_url, settings.upstream_kind) == (None, None)
    assert settings.upstream_api_key is None
    assert (settings.lease_seconds, settings.lease_ms) == (30, 30_000)
    assert settings.queue_limit == 1_000
    assert (settings.max_attempts, settings.max_deliveries) == (3, 5)
    assert (settings.job_timeout_seconds, settings.sync_timeout_seconds) == (600, 280)
    assert settings.retention_hours == 24
    assert settings.recovery_policy is RecoveryPolicy.REQUEUE
    assert settings.durability is Durability.EVERYSEC


def test_every_default_is_one_that_could_be_given() -> None:
    for name, (low, high) in RANGES.items():
        assert low <= getattr(Settings(), name.lower()) <= high


ENVIRONMENT = {
    "REDIS_URL": "redis://store:6379/0",
    "RESPOOL_DATA_DIR": "/var/lib/respool",
    "ARCHIVE_URL": "file:///var/lib/archive",
    "API_HOST": "0.0.0.0",
    "API_PORT": "18080",
    "WORKER_HOST": "::1",
    "WORKER_PORT": "0",
    "WORKER_CONCURRENCY": "16",
    "WORKER_QUEUES": "fast,slow",
    "UPSTREAM_URL": "http://gpu:11434",
    "UPSTREAM_KIND": "ollama",
    "UPSTREAM_API_KEY": "a key",
    "TRUSTED_PROXIES": "10.0.0.7,192.168.0.0/16",
    "OPENAI_API_KEY_REQUIRED": "true",
    "OPENAI_API_KEY": "another+key/=",
    "LEASE_SECONDS": "5",
    "SHUTDOWN_GRACE_SECONDS": "0",
    "QUEUE_LIMIT": "7",
    "MAX_ATTEMPTS": "1",
    "MAX_DELIVERIES": "2",
    "JOB_TIMEOUT_SECONDS": "60",
    "SYNC_TIMEOUT_SECONDS": "30",
    "RETENTION_HOURS": "48",
    "BACKUP_DIR": "/backup",
    "MAX_BODY_BYTES": "2048",
    "BODY_TIMEOUT_SECONDS": "9",
    "STREAM_LIMIT": "11",
    "STREAM_STALL_SECONDS": "12",
    "RECOVERY_POLICY": "fail",
    "DURABILITY": "always",
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "debug",
    "LOG_CONTENT": "true",
}
SETTINGS = Settings(
    redis_url="redis://store:6379/0",
    respool_data_dir=Path("/var/lib/respool"),
    archive_url="file:///var/lib/archive",
    api_host="0.0.0.0",
    api_port=18_080,
    worker_host="::1",
    worker_port=0,
    worker_concurrency=16,
    worker_queues=("fast", "slow"),
    upstream_url="http://gpu:11434",
    upstream_kind=UpstreamKind.OLLAMA,
    upstream_api_key="a key",
    trusted_proxies=("10.0.0.7", "192.168.0.0/16"),
    openai_api_key_required=True,
    openai_api_key="another+key/=",
    lease_seconds=5,
    shutdown_grace_seconds=0,
    queue_limit=7,
    max_attempts=1,
    max_deliveries=2,
    job_timeout_seconds=60,
    sync_timeout_seconds=30,
    retention_hours=48,
    backup_dir=Path("/backup"),
    max_body_bytes=2_048,
    body_timeout_seconds=9,
    stream_limit=11,
    stream_stall_seconds=12,
    recovery_policy=RecoveryPolicy.FAIL,
    durability=Durability.ALWAYS,
    log_format=LogFormat.JSON,
    log_level=LogLevel.DEBUG,
    log_content=True,
)


def test_all_settings_are_read() -> None:
    assert set(ENVIRONMENT) == {name.upper() for name in Settings.__struct_fields__}
    assert read_settings(ENVIRONMENT) == SETTINGS


def test_a_process_reads_its_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE_LIMIT", "17")
    assert read_settings().queue_limit == 17


def test_other_variables_are_none_of_ours() -> None:
    assert read_settings({"PATH": "/bin", "queue_limit": "7", "LEASE_MS": "1"}) == Settings()


@pytest.mark.parametrize("empty", ["", " ", "\t\n"])
def test_an_empty_variable_counts_as_absent(empty: str) -> None:
    environment = {name.upper(): empty for name in Settings.__struct_fields__}
    assert read_settings(environment) == Settings()


def test_space_around_a_value_does_not_count() -> None:
    assert value_of("QUEUE_LIMIT", " 7\n") == 7
    assert value_of("LOG_FORMAT", " json ") is LogFormat.JSON


def test_all_that_is_wrong_is_named_at_once() -> None:
    message = complaint(
        API_PORT="http", LOG_LEVEL="loud", QUEUE_LIMIT="0", MAX_ATTEMPTS="3", RECOVERY_POLICY="hope"
    )
    assert message.splitlines() == [
        "API_PORT='http': takes a whole number from 0 to 65535",
        "QUEUE_LIMIT='0': takes a whole number from 1 to 10000000",
        "RECOVERY_POLICY='hope': takes one of requeue, fail",
        "LOG_LEVEL='loud': takes one of debug, info, warning, error",
    ]


@pytest.mark.parametrize("name", RANGES)
def test_a_number_may_be_at_either_end_of_its_range(name: str) -> None:
    low, high = RANGES[name]
    assert (value_of(name, str(low)), value_of(name, str(high))) == (low, high)


@pytest.mark.parametrize("name", RANGES)
def test_a_number_out_of_its_range_is_told_the_range(name: str) -> None:
    low, high = RANGES[name]
    other = ", or auto" if name == "WORKER_CONCURRENCY" else ""
    takes = f"takes a whole number from {low} to {high}{other}"
    for number in (low - 1, high + 1):
        assert complaint(**{name: str(number)}) == f"{name}='{number}': {takes}"


@pytest.mark.parametrize(
    "text",
    ["x", "1.5", "1e3", "+7", "-7", "0x10", "1_000", "٣", "²", "9" * 5_000, "0" * 20 + "7" * 9],
)
def test_what_is_no_plain_number_is_refused(text: str) -> None:
    assert "takes a whole number" in complaint(QUEUE_LIMIT=text)


@pytest.mark.parametrize("name", ENUMS)
def test_a_choice_is_read_and_a_wrong_one_told_the_choices(name: str) -> None:
    kind, names = ENUMS[name]
    assert [value_of(name, choice) for choice in kind] == list(kind)
    assert complaint(**{name: "other"}) == f"{name}='other': takes one of {names}"
    assert complaint(**{name: "JSON"}) == f"{name}='JSON': takes one of {names}"


@pytest.mark.parametrize(
    ("text", "queues"),
    [
        ("one", ("one",)),
        ("one,two", ("one", "two")),
        (" one , two,, ", ("one", "two")),
        (",", ()),
    ],
)
def test_queues_are_a_list_with_commas(text: str, queues: tuple[str, ...]) -> None:
    assert value_of("WORKER_QUEUES", text) == queues


def test_a_queue_that_no_job_can_name_is_refused() -> None:
    assert complaint(WORKER_QUEUES="fast, a:b") == (
        "WORKER_QUEUES='fast, a:b': takes names of A-Z, a-z, 0-9, '.', '_' and '-', "
        "64 characters at most, with commas between them"
    )


def test_proxies_are_addresses_and_networks_with_commas() -> None:
    proxies = ("10.0.0.7", "192.168.0.0/16", "::1", "fd00::/8")
    assert value_of("TRUSTED_PROXIES", "10.0.0.7, 192.168.0.0/16,::1,,fd00::/8") == proxies


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nginx", "'nginx' does not appear to be an IPv4 or IPv6 address"),
        ("*", "'*' does not appear to be an IPv4 or IPv6 address"),
        ("10.0.0.7/8", "10.0.0.7/8 has host bits set"),
    ],
)
def test_what_is_no_address_is_refused_rather_than_never_matched(text: str, why: str) -> None:
    assert complaint(TRUSTED_PROXIES=text) == (
        f"TRUSTED_PROXIES={text!r}: takes addresses and networks with commas between them, "
        f"such as 10.0.0.7,192.168.0.0/16; {why}"
    )


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("REDIS_URL", "redis:// or rediss:// or unix:// or redis-cluster:// or rediss-cluster://"),
        ("UPSTREAM_URL", "http:// or https:// or echo:"),
    ],
)
def test_a_url_of_another_kind_is_refused_and_its_password_is_not_shown(
    name: str, takes: str
) -> None:
    assert complaint(**{name: "ftp://me:secret@host/0"}) == (
        f"{name}='ftp://me:***@host/0': takes a URL that begins with {takes}"
    )


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://:***@store:66379/0", "Port out of range 0-65535"),
        ("redis://:***@store:port/0", "Port could not be cast to integer value as 'port'"),
        ("redis://[::1", "Invalid IPv6 URL"),
        ("redis://store:6379/jobs", "has 'jobs' where the number of a database stands"),
        ("redis://store:6379/0?retries=3", "has an option that there is not: retries"),
        (
            "rediss://store:6379/0?ssl_cert_reqs=some",
            "Invalid SSL Certificate Requirements Flag: some (of ssl_cert_reqs)",
        ),
        (
            "rediss://store:6379/0?ssl_ca_certs=/nowhere/ca.pem",
            "names a file that cannot be used: [Errno 2] No such file or directory (ssl_ca_certs)",
        ),
    ],
)
def test_a_redis_url_that_nothing_can_connect_to_is_refused_before_it_is_tried(
    url: str, why: str
) -> None:
    said = complaint(REDIS_URL=url.replace("***", "secret"))
    assert said == f"REDIS_URL={url!r}: {why}"


@pytest.mark.parametrize(
    "url",
    [
        "redis://store",
        "redis://me:secret@store:6379/3",
        "redis://[::1]:6379?db=2",
        "rediss://store:6380/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_every_kind_of_redis_url_is_taken(url: str) -> None:
    assert value_of("REDIS_URL", url) == url


@pytest.mark.parametrize("text", ["true", "1", "yes", "True", "TRUE", "false", "0", "no"])
def test_yes_and_no_are_said_in_some_ways(text: str) -> None:
    is_yes = text.lower() in {"true", "1", "yes"}
    assert value_of("OPENAI_API_KEY_REQUIRED", text) is is_yes


@pytest.mark.parametrize("text", ["on", "truee", "2", "-"])
def test_nothing_else_says_whether_keys_are_required(text: str) -> None:
    assert complaint(OPENAI_API_KEY_REQUIRED=text) == (
        f"OPENAI_API_KEY_REQUIRED={text!r}: takes true or false"
    )


@pytest.mark.parametrize("text", ["two words", "schlüssel", "a\x00b"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_repeated(text: str) -> None:
    assert text not in complaint(OPENAI_API_KEY=text)
    assert "OPENAI_API_KEY" in complaint(OPENAI_API_KEY=text)


def test_any_text_may_be_the_key_of_the_upstream() -> None:
    assert value_of("UPSTREAM_API_KEY", "anything: at all") == "anything: at all"


def test_the_store_is_bounded_by_the_settings() -> None:
    bounds = Settings(queue_limit=7, retention_hours=2).bounds(patience_seconds=1.5)
    assert bounds.waiting_max == 7
    assert bounds.scheduled_max == 70
    assert bounds.retention_ms == 7_200_000
    assert bounds.patience_seconds == 1.5


def test_a_password_is_not_shown_whatever_is_in_it() -> None:
    said = complaint(REDIS_URL="redis://me:half:an@other@host:1/zero")
    assert "redis://me:***@host:1/zero" in said
    assert "half" not in said
