"""That exporting costs nobody anything: when it is off, and when the collector is away or hangs."""

import signal
import subprocess
import sys
import time

import pytest

from tests.processes import RESPOOL, clean_environment
from tests.servers import free_port
from tests.tracing.collector import Collector
from tests.tracing.conftest import CHAT, Site
from tests.upstream.behaving import behaving, requests, says_hello

CLIENT_TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{CLIENT_TRACE}-b7ad6b7169203331-01"

# A whole API and worker in one process, one job through both, and what was imported for it. redis-py
# imports the SDK's metrics for itself, and Litestar some names, wherever they are installed.
ONE_JOB = """
import asyncio, sys
import litestar, redis.asyncio
import cli.exposition  # Metrics are always there.
litestar.Litestar([])
theirs = set(sys.modules)
from cli import telemetry
from cli.roles import api as api_role
from cli.roles import worker as worker_role
from consumers.stop import Stop
from core.settings import Settings
import httpx

async def one_job(url, tracer):
    stop, ready = Stop(), asyncio.Event()
    async with api_role.running_api(Settings(api_port=0), url, tracer=tracer) as api:
        settings = Settings(worker_port=0)
        working = asyncio.create_task(
            worker_role.run_worker(settings, url, "echo:", stop, ready.set, tracer)
        )
        await ready.wait()
        body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
        async with httpx.AsyncClient(base_url=api) as http:
            answer = await http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        stop.ask()
        await working

with telemetry.exporting_spans("test") as tracer:
    asyncio.run(one_job(sys.argv[1], tracer))
ours = sys.modules.keys() - theirs
print(sorted({name for name in ours if name.startswith("opentelemetry")}))
"""


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported(site: Site) -> None:
    assert _imported(site) == "[]"


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_an_endpoint_that_is_switched_off_is_none(site: Site, off: dict[str, str]) -> None:
    assert _imported(site, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", **off) == "[]"


def test_the_same_with_an_endpoint_imports_the_sdk(site: Site, collector: Collector) -> None:
    assert "opentelemetry.sdk.trace" in _imported(site, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert len(collector.until(4)) >= 4  # What is left when a process ends is sent.


def _imported(site: Site, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ONE_JOB, site.redis_url],
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def test_without_an_endpoint_a_clients_trace_still_goes_through(site: Site) -> None:
    site.api()
    async with behaving(says_hello) as (_, upstream):
        await site.aside(site.worker, upstream.url, UPSTREAM_KIND="openai")
        answer = await site.aside(site.chat, traceparent=SAMPLED, baggage="user=alice")
    [asked] = requests(upstream)
    assert asked.headers["traceparent"] == SAMPLED
    assert "baggage" not in asked.headers
    job = site.http.get(f"/v1/jobs/{answer.headers['x-job-id']}").json()
    assert job["trace_id"] == CLIENT_TRACE


async def test_without_an_endpoint_a_malformed_traceparent_is_dropped(site: Site) -> None:
    site.api()
    site.worker()
    answer = site.chat(traceparent=SAMPLED[:-3])
    job = site.http.get(f"/v1/jobs/{answer.headers['x-job-id']}").json()
    assert "trace_id" not in job


def test_of_several_traceparents_none_is_believed(site: Site) -> None:
    site.api()
    site.worker()
    headers = [("traceparent", SAMPLED), ("traceparent", SAMPLED.replace("b7", "b8"))]
    answer = site.http.post("/v1/chat/completions", json=CHAT, headers=headers)
    job = site.http.get(f"/v1/jobs/{answer.headers['x-job-id']}").json()
    assert "trace_id" not in job


def test_the_operators_name_for_the_service_counts_before_ours(
    site: Site, collector: Collector
) -> None:
    site.export_to(collector.url)
    up = site.up(OTEL_SERVICE_NAME="gpu-7")
    job_id = site.chat().headers["x-job-id"]
    assert {span.service for span in collector.of_job(job_id, 4)} == {"gpu-7"}
    up.send(signal.SIGTERM)
    assert up.wait() == 0


@pytest.mark.parametrize("trouble", ["away", "silent"])
def test_a_collector_in_trouble_slows_no_job_and_no_shutdown(
    site: Site, collector: Collector, trouble: str
) -> None:
    if trouble == "silent":
        collector.silent.set()
    url = collector.url if trouble == "silent" else f"http://127.0.0.1:{free_port()}"
    # Little room, so that it is full at once and has to be dropped from.
    site.export_to(url, OTEL_BSP_MAX_QUEUE_SIZE="8", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4")
    api, worker = site.api(), site.worker()
    slowest = 0.0
    for _ in range(20):
        began = time.monotonic()
        site.chat()
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 5  # An export that fails takes 10.
    for process in (api, worker):
        began = time.monotonic()
        process.send(signal.SIGTERM)
        assert process.wait() == 0
        assert time.monotonic() - began < 8  # A worker also says on the log that it stops.
        assert "Traceback" not in process.output
        said = [line for line in process.output.splitlines() if "opentelemetry" in line]
        assert len(said) <= 2, said  # One that it cannot be sent, one that some is dropped.


def test_a_protocol_that_is_not_spoken_is_said_at_the_start() -> None:
    settings = {
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4317",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_TRACES_EXPORTER": "zipkin",
    }
    done = subprocess.run(
        [RESPOOL, "api"],
        env=clean_environment(settings),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert "OTEL_EXPORTER_OTLP_ENDPOINT='localhost:4317': takes a URL" in lines[0]
    assert "OTEL_EXPORTER_OTLP_PROTOCOL='grpc': takes http/protobuf" in lines[1]
    assert "OTEL_TRACES_EXPORTER='zipkin': takes otlp or none" in lines[2]
