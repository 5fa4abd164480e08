"""compose.yaml and its overlays: what the guide asks for, and what must not get lost on the way."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.settings import Settings
from tests.deploy.compose import OVERLAYS, PASSWORDS, ROOT, SIZES, config, run

GIVE_BACK_SECONDS = 5  # consumers/stop.py: after the grace.
ONCE = {"migrate", "models", "doctor"}  # They do one thing and end.


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    return config()


@pytest.fixture(scope="module", params=SIZES)
def size(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return request.param, config(request.param)


def environment(deployment: dict[str, Any], service: str) -> dict[str, str]:
    found: dict[str, str] = deployment["services"][service]["environment"]
    return found


def memory_bytes(deployment: dict[str, Any], service: str) -> int:
    return int(deployment["services"][service]["deploy"]["resources"]["limits"]["memory"])


def seconds(duration: str) -> int:
    found = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", duration)
    assert found is not None
    return 60 * int(found[1] or 0) + int(found[2] or 0)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_can_be_joined(overlay: str) -> None:
    assert config(overlay)["name"] == "respool"


def test_all_overlays_can_be_joined_with_each_size(size: tuple[str, dict[str, Any]]) -> None:
    others = [overlay for overlay in OVERLAYS if overlay not in SIZES]
    left_out = {"ollama", "models"}  # By the overlay for an inference server elsewhere.
    assert config(size[0], *others)["services"].keys() == size[1]["services"].keys() - left_out


def test_the_guides_command_has_a_worker_an_ollama_and_no_nginx() -> None:
    names = config(profiles=["worker"])["services"].keys()
    assert {"gateway", "worker", "redis", "projector", "backup", "ollama"} <= names
    assert {"nginx", "grafana", "gateway-2"}.isdisjoint(names)


def test_sizes_have_the_guides_values(size: tuple[str, dict[str, Any]]) -> None:
    name, deployment = size
    worker = deployment["services"]["worker"]
    found = (
        int(environment(deployment, "worker")["WORKER_CONCURRENCY"]),
        worker["deploy"]["replicas"],
        memory_bytes(deployment, "redis") // 1024**3,
        len([service for service in deployment["services"] if service.startswith("gateway")]),
    )
    assert found == {"small": (1, 1, 1, 1), "medium": (3, 2, 4, 1), "high": (5, 3, 8, 3)}[name]
    sent = found[0] * found[1]
    for service in ("ollama", "doctor"):
        assert int(environment(deployment, service)["OLLAMA_NUM_PARALLEL"]) == sent


@pytest.mark.parametrize("overlays", [(), *((size,) for size in SIZES)], ids=str)
def test_redis_may_use_70_percent_of_its_containers_memory(overlays: tuple[str, ...]) -> None:
    deployment = config(*overlays)
    said = re.fullmatch(r"(\d+)(mb|gb)", environment(deployment, "redis")["REDIS_MAXMEMORY"])
    assert said is not None
    maxmemory = int(said[1]) * {"mb": 1024**2, "gb": 1024**3}[said[2]]
    limit = memory_bytes(deployment, "redis")
    assert 0.66 * limit < maxmemory <= 0.7 * limit


def test_no_container_can_do_more_than_it_has_to(size: tuple[str, dict[str, Any]]) -> None:
    for name, service in size[1]["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert memory_bytes(size[1], name) > 0, name
        of_root = name == "models"
        assert service.get("cap_add", []) == (["CHOWN"] if of_root else []), name
        is_ours = service["image"].startswith("respool:")  # The Dockerfile says USER.
        assert is_ours or (service["user"].split(":")[0] in {"0", "root"}) == of_root, name
        assert "privileged" not in service


def test_our_image_is_not_roots() -> None:
    stages = (ROOT / "Dockerfile").read_text("utf-8").split("\nFROM ")
    assert "\nUSER 10001:10001\n" in stages[-1]


def test_every_service_that_stays_has_a_check(size: tuple[str, dict[str, Any]]) -> None:
    assert "\nHEALTHCHECK " in (ROOT / "Dockerfile").read_text("utf-8")  # That of the gateways.
    for name, service in size[1]["services"].items():
        if name not in ONCE and not name.startswith("gateway"):
            assert service["healthcheck"]["test"], name


def test_a_container_is_given_longer_to_stop_than_it_takes(base: dict[str, Any]) -> None:
    grace = int(environment(base, "worker")["SHUTDOWN_GRACE_SECONDS"])
    services = base["services"]
    assert int(environment(base, "doctor")["SHUTDOWN_GRACE_SECONDS"]) == grace
    assert seconds(services["worker"]["stop_grace_period"]) > grace + GIVE_BACK_SECONDS
    assert seconds(services["gateway"]["stop_grace_period"]) > 6  # cli/serving.py
    assert seconds(services["redis"]["stop_grace_period"]) > 10  # A snapshot takes its time.


def test_only_the_gateways_are_between_clients_and_the_backend(
    size: tuple[str, dict[str, Any]],
) -> None:
    services, networks = size[1]["services"], size[1]["networks"]
    assert [name for name, network in networks.items() if network.get("internal")] == ["backend"]
    within = {name: set(one.get("networks", ())) for name, one in services.items()}
    for name in ("worker", "redis", "projector", "migrate", "backup", "doctor"):
        assert within[name] == {"backend"}
    frontend = {name for name, its in within.items() if "frontend" in its}
    gateways = {name for name in services if name.startswith("gateway")}
    assert frontend == gateways | {"nginx"}
    assert within["nginx"] == {"frontend"}


def test_only_nginx_is_published_to_everybody(base: dict[str, Any]) -> None:
    published = {
        (name, port["published"]): port.get("host_ip", "everybody")
        for name, service in base["services"].items()
        for port in service.get("ports", ())
    }
    assert published.pop(("nginx", "443")) == "everybody"
    assert published[("gateway", "18080")] == "127.0.0.1"
    assert set(published.values()) == {"127.0.0.1"}


def test_a_gateway_believes_nginx_and_nobody_else(size: tuple[str, dict[str, Any]]) -> None:
    services = size[1]["services"]
    nginx = services["nginx"]["networks"]["frontend"]["ipv4_address"]
    for name in services:
        if name.startswith("gateway"):
            assert environment(size[1], name)["TRUSTED_PROXIES"] == nginx


def test_each_name_that_nginx_has_for_a_gateway_is_somebodys(
    size: tuple[str, dict[str, Any]],
) -> None:
    answers: list[str] = []
    for name, service in size[1]["services"].items():
        if name.startswith("gateway"):
            aliases = service["networks"]["frontend"].get("aliases", [])
            answers += {name, *aliases} & {"gateway-1", "gateway-2", "gateway-3"}
    assert sorted(answers) == ["gateway-1", "gateway-2", "gateway-3"]


def test_prometheus_finds_all_gateways_by_one_name() -> None:
    services = config("high")["services"]
    for name in ("gateway-2", "gateway-3"):
        assert services[name]["networks"]["backend"]["aliases"] == ["gateway"]


def test_every_setting_reaches_somebody(base: dict[str, Any]) -> None:
    """Set in .env, that is; some are what the image or its volumes make them."""
    fields = {field.name.upper() for field in msgspec.structs.fields(Settings)}
    fixed = {"API_HOST", "API_PORT", "WORKER_HOST", "WORKER_PORT"}
    fixed |= {"RESPOOL_DATA_DIR", "BACKUP_DIR", "LOG_FORMAT"}
    text = (ROOT / "compose.yaml").read_text("utf-8")
    given = set(re.findall(r"^ {2,6}([A-Z_0-9]+):", text, re.MULTILINE))
    assert fields - fixed - given == set()


def test_the_archive_is_everybodys_who_reads_the_past(base: dict[str, Any]) -> None:
    for name in ("gateway", "worker", "projector", "migrate", "backup", "doctor"):
        assert environment(base, name)["ARCHIVE_URL"] == "file:///var/lib/respool/archive"
        targets = [volume["target"] for volume in base["services"][name]["volumes"]]
        assert "/var/lib/respool" in targets


def test_a_setting_of_the_environment_is_passed_on() -> None:
    deployment = config(environment=PASSWORDS | {"LEASE_SECONDS": "45", "QUEUE_LIMIT": "7"})
    assert environment(deployment, "worker")["LEASE_SECONDS"] == "45"
    assert environment(deployment, "gateway")["QUEUE_LIMIT"] == "7"


def test_only_the_operators_processes_have_the_operators_password(base: dict[str, Any]) -> None:
    for name in base["services"]:
        has = PASSWORDS["REDIS_ADMIN_PASSWORD"] in str(base["services"][name])
        assert has == (name in {"redis", "backup"}), name


def test_without_passwords_nothing_starts_and_it_says_how_to_make_them() -> None:
    done = run("config", "--quiet")
    assert done.returncode != 0
    assert "openssl rand -hex 32" in done.stderr


def test_the_guides_key_command_makes_the_key_of_the_gateway(tmp_path: Path) -> None:
    example = (ROOT / ".env.example").read_text("utf-8")
    env_file = tmp_path / ".env"
    added = "API_KEY=c2VjcmV0L3NlY3JldCtzZWNyZXQ=\nREDIS_PASSWORD=a\nREDIS_ADMIN_PASSWORD=b\n"
    env_file.write_text(example + added, "utf-8")
    deployment = config(env_file=env_file, environment={})
    gateway = environment(deployment, "gateway")
    assert gateway["OPENAI_API_KEY"] == "c2VjcmV0L3NlY3JldCtzZWNyZXQ="
    assert gateway["OPENAI_API_KEY_REQUIRED"] == "true"


def test_each_name_of_the_example_is_one_that_compose_takes() -> None:
    example = (ROOT / ".env.example").read_text("utf-8")
    names = set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE))
    names -= {"COMPOSE_FILE", "COMPOSE_PROFILES"}  # Of Compose itself.
    assert {"WORKER_CONCURRENCY", "OPENAI_API_KEY_REQUIRED", "OPENAI_API_KEY"} <= names
    files = [ROOT / "compose.yaml", *ROOT.glob("compose.*.yaml")]
    text = "".join(file.read_text("utf-8") for file in files)
    assert {name for name in names if not re.search(rf"\$\{{{name}\b", text)} == set()


def test_a_gpu_is_ollamas_and_the_workers_to_look_at() -> None:
    services = config("gpu")["services"]
    for name in ("ollama", "worker"):
        [device] = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"
        assert {"gpu", "utility"} <= set(device["capabilities"])


def test_fluentd_holds_nobody_up() -> None:
    services = config("fluentd", "high")["services"]
    drivers = {name: service["logging"]["driver"] for name, service in services.items()}
    to_fluentd = {name for name, driver in drivers.items() if driver == "fluentd"}
    assert to_fluentd == {name for name in services if name.startswith("gateway")} | {
        *("worker", "projector", "backup")
    }
    for name in to_fluentd:
        options = services[name]["logging"]["options"]
        assert options["fluentd-async"] == "true"
        assert options["fluentd-address"] == "localhost:24224"
        assert "max-size" not in options


def test_an_inference_server_elsewhere_is_reached_by_who_calls_it() -> None:
    services = config("egress", profiles=["worker"])["services"]
    assert "ollama" not in services
    ways_out = {name for name, one in services.items() if "egress" in one.get("networks", {})}
    assert ways_out == {"worker", "projector", "migrate", "backup"}
    assert services["worker"]["extra_hosts"] == ["host.docker.internal=host-gateway"]


def test_with_tls_nobody_talks_to_redis_without() -> None:
    services = config("redis-tls", "high")["services"]
    urls = {
        name: service["environment"]["REDIS_URL"]
        for name, service in services.items()
        if "REDIS_URL" in service.get("environment", {})
    }
    assert len(urls) == 8
    assert all(
        url.startswith("rediss://") and url.endswith("?ssl_ca_certs=/tls/ca.pem")
        for url in urls.values()
    )
    assert services["redis"]["command"][:2] == ["--port", "0"]


def test_backups_are_made_every_six_hours(base: dict[str, Any]) -> None:
    assert base["services"]["backup"]["command"] == ["backup", "--every", "6h", "--keep", "28"]


def test_every_image_has_a_version(base: dict[str, Any]) -> None:
    for name, service in base["services"].items():
        _, _, version = service["image"].partition(":")
        assert version not in {"", "latest"}, name
