"""Alerts: the rules are right, by Prometheus's own tools, and one fires in a real Prometheus."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.metrics.conftest import a_worker, scrape, url_of
from tests.metrics.dashboard import DEPLOY, queries
from tests.servers import free_port
from tests.tracing.conftest import Site

PROMETHEUS = DEPLOY / "prometheus"
RUNBOOKS = DEPLOY.parent / "docs" / "runbooks.md"
# Shown where there is something to say: a maxmemory.
AT_TIMES = {"redis_memory_max_bytes"}
# What this machine has not, or what has not gone wrong: these may show nothing.
MAY_BE_EMPTY = {"GPU memory", "Redis memory"}
_OF_PROMETHEUS = {"job", "instance"}
_PATIENCE_SECONDS = 30.0


def run(program: str, *arguments: str) -> str:
    """What a program of Prometheus's says; the test is skipped where it is not installed."""
    if shutil.which(program) is None:
        package = {"amtool": "prometheus-alertmanager"}.get(program, "prometheus")
        pytest.skip(f"{program} is not installed (Debian: apt-get install {package})")
    done = subprocess.run(
        [program, *arguments],
        cwd=PROMETHEUS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text("utf-8"))["groups"]
    assert group["name"] == "ollama_proxy"
    found: list[dict[str, Any]] = group["rules"]
    return found


def series_of_the_tests() -> set[tuple[str, frozenset[str]]]:
    """The names and labels that the rules are tested with."""
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text("utf-8"))["tests"]
    found = set()
    for one in tests:
        for series in one["input_series"]:
            name, _, labels = series["series"].partition("{")
            found.add((name, frozenset(re.findall(r"(\w+)=", labels)) - _OF_PROMETHEUS))
    return found


def test_rules_and_configurations_are_well_formed() -> None:
    assert "8 rules found" in run("promtool", "check", "rules", "alerts.yml")
    run("promtool", "check", "config", "prometheus.yml")
    run("amtool", "check-config", str(DEPLOY / "alertmanager" / "alertmanager.yml"))


def test_each_rule_fires_when_it_should_and_not_before() -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", "alerts_test.yml")


def test_each_rule_has_a_severity_a_test_and_a_runbook() -> None:
    runbooks = RUNBOOKS.read_text("utf-8")
    tested = (PROMETHEUS / "alerts_test.yml").read_text("utf-8")
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{rule['alert'].lower()}"
        assert f"## {rule['alert']}\n" in runbooks
        assert f"alertname: {rule['alert']}\n" in tested


def test_the_rules_are_tested_with_series_as_a_real_scrape_has_them(site: Site) -> None:
    site.api()
    a_worker(site)
    site.submit(wait=10)
    samples = scrape(url_of(site))
    real = {
        (name, frozenset(label for label, _ in labels))
        for name, by_labels in samples.items()
        for labels in by_labels
    }
    assert {one for one in series_of_the_tests() if one[0] not in AT_TIMES} <= real


@contextmanager
def prometheus(folder: Path, *targets: str) -> Iterator[str]:
    """A Prometheus that scrapes them all the time, with our rules but for their patience; its URL."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    text = (PROMETHEUS / "alerts.yml").read_text("utf-8")
    text = re.sub(r"for: \d+m", "for: 1s", text).replace("interval: 30s", "interval: 500ms")
    (folder / "alerts.yml").write_text(text, "utf-8")
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [{"job_name": "all", "static_configs": [{"targets": list(targets)}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    address = f"127.0.0.1:{free_port()}"
    options = (f"--web.listen-address={address}", "--storage.tsdb.path=data")
    command = ["prometheus", "--config.file=prometheus.yml", *options]
    with (folder / "prometheus.log").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def answer(url: str, query: str) -> list[Any]:
    """The series that a query has in a Prometheus."""
    asked = httpx.get(f"{url}/api/v1/query", params={"query": query}, trust_env=False).json()
    assert asked["status"] == "success", (query, asked)
    found: list[Any] = asked["data"]["result"]
    return found


def firing(url: str) -> set[str]:
    try:
        answer = httpx.get(f"{url}/api/v1/alerts", trust_env=False).json()
    except httpx.HTTPError:
        return set()
    alerts = answer["data"]["alerts"]
    return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}


def test_a_real_overload_fires_in_a_real_prometheus_and_shows_in_every_panel(
    site: Site, tmp_path: Path
) -> None:
    site.api()
    quick = a_worker(site, WORKER_QUEUES="default")
    slow = a_worker(
        site, UPSTREAM_URL="echo://?latency_ms=60000", WORKER_QUEUES="slow", WORKER_CONCURRENCY="40"
    )
    targets = [url.removeprefix("http://") for url in (url_of(site), quick, slow)]
    with prometheus(tmp_path, *targets) as url:
        for _ in range(90):
            site.submit(queue="slow")
        site.submit(wait=10)
        until = time.monotonic() + _PATIENCE_SECONDS
        while not (fired := firing(url)) >= {"HighUtilization", "QueueBuildup"}:
            assert time.monotonic() < until, (
                fired,
                answer(url, '{__name__=~"proxy_.*|jobs_total|job_attempts_total"} > 0'),
            )
            time.sleep(0.2)
        assert fired == {"HighUtilization", "QueueBuildup"}
        for title, asked in queries().items():
            for query in asked:
                found = answer(url, query)
                assert found or title in MAY_BE_EMPTY, (title, query)
