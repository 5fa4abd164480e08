"""What API and workers say to Prometheus: the names that users' dashboards and alerts have."""

import signal

import httpx

from core.tally import OTHERS, Counts, Names
from tests.metrics.conftest import Samples, a_worker, scrape, url_of, value_of
from tests.servers import RedisServer
from tests.tracing.conftest import Site

JOBS = 3
OF_THE_CLUSTER = (
    *("proxy_active_jobs", "proxy_queued_jobs", "proxy_scheduled_jobs", "proxy_capacity"),
    *("log_length_events", "projection_lag_events", "store_up"),
)
# With their labels. Those of a histogram are of its buckets.
OF_AN_API = {
    "http_requests_total": {"method", "route", "code"},
    "http_request_duration_seconds_bucket": {"method", "route", "le"},
    "jobs_submitted_total": {"queue"},
    "jobs_total": {"queue", "status"},
    "proxy_active_jobs": {"queue"},
    "proxy_queued_jobs": {"queue"},
    "proxy_capacity": {"worker"},
    "redis_memory_used_bytes": set[str](),
    "projection_lag_events": set[str](),
    "log_length_events": set[str](),
}
OF_A_WORKER = {
    "job_wait_seconds_bucket": {"queue", "le"},
    "job_duration_seconds_bucket": {"queue", "status", "le"},
    "job_time_to_first_token_seconds_bucket": {"queue", "le"},
    "job_attempts_total": {"outcome"},
    "jobs_total": {"queue", "status"},
    "proxy_active_jobs": {"queue"},
    "proxy_capacity": {"worker"},
}


def labels_of(samples: Samples, name: str) -> set[str]:
    return {label for labels in samples[name] for label, _ in labels}


def test_every_name_is_there_with_its_labels_and_nothing_is_counted_twice(site: Site) -> None:
    site.api()
    workers = [a_worker(site, WORKER_CONCURRENCY="2") for _ in range(2)]
    for _ in range(JOBS):
        site.submit(wait=10)
    said = [scrape(url) for url in (url_of(site), *workers)]
    of_api, *of_workers = said
    assert {name: labels_of(of_api, name) for name in OF_AN_API} == OF_AN_API
    busy = next(one for one in of_workers if "job_wait_seconds_count" in one)
    assert {name: labels_of(busy, name) for name in OF_A_WORKER} == OF_A_WORKER

    ended = {"queue": "default", "status": "completed"}
    assert sum(value_of(one, "jobs_total", **ended) for one in said) == JOBS
    assert sum(value_of(one, "jobs_submitted_total", queue="default") for one in said) == JOBS
    assert sum(value_of(one, "job_attempts_total", outcome="completed") for one in said) == JOBS
    waits = [one.get("job_wait_seconds_count", {}).values() for one in of_workers]
    assert sum(sum(values) for values in waits) == JOBS
    for name in OF_THE_CLUSTER:
        assert of_api[name] == of_workers[0][name] == of_workers[1][name], name
    assert sorted(of_api["proxy_capacity"].values()) == [2, 2]
    assert value_of(of_api, "log_length_events") >= 3 * JOBS


def test_buckets_go_from_5_ms_to_600_s(site: Site) -> None:
    site.api()
    site.http.get("/readyz")
    buckets = scrape(url_of(site))["http_request_duration_seconds_bucket"]
    bounds = sorted({float(dict(labels)["le"]) for labels in buckets})
    assert bounds[0] == 0.005
    assert bounds[-2:] == [600.0, float("inf")]


def test_requests_are_counted_by_the_template_of_their_route(site: Site) -> None:
    site.api()
    for path in ("/v1/jobs/one", "/v1/jobs/another", "/no/such/path"):
        site.http.get(path)
    site.http.request("PURGE", "/v1/jobs")
    counts = scrape(url_of(site))["http_requests_total"]
    seen = {tuple(sorted(labels)): count for labels, count in counts.items()}
    job = (("code", "404"), ("method", "GET"), ("route", "/v1/jobs/{job_id}"))
    nowhere = (("code", "404"), ("method", "GET"), ("route", "none"))
    assert seen[job] == 2
    assert seen[nowhere] == 1
    assert {dict(labels)["method"] for labels in counts} == {"GET", "_OTHER"}


def test_it_takes_no_key_and_says_nothing_of_a_job(site: Site) -> None:
    site.api(OPENAI_API_KEY_REQUIRED="true", OPENAI_API_KEY="a-key-that-nobody-guesses")
    assert site.http.get("/v1/jobs").status_code == 401
    site.http.headers["Authorization"] = "Bearer a-key-that-nobody-guesses"
    a_worker(site)
    job = site.submit(queue="slow")
    text = httpx.get(f"{url_of(site)}/metrics", trust_env=False).text
    assert 'jobs_submitted_total{queue="slow"} 1.0' in text
    assert job["id"] not in text
    assert 'code="401"' in text


def test_without_redis_it_says_so_and_no_figure_of_the_cluster(
    site: Site, server: RedisServer
) -> None:
    site.api()
    server.send(signal.SIGSTOP)
    try:
        samples = scrape(url_of(site))
    finally:
        server.send(signal.SIGCONT)
    assert value_of(samples, "store_up") == 0
    assert "proxy_queued_jobs" not in samples
    assert "http_requests_total" in samples


def test_names_that_clients_choose_are_bounded() -> None:
    names = Names(2)
    assert [names(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", OTHERS, "a", OTHERS]


def test_what_has_not_been_is_0_from_the_beginning() -> None:
    counts = Counts("outcome")
    counts.begin("completed")
    counts.add("failed")
    counts.begin("failed")
    assert dict(counts) == {("completed",): 0, ("failed",): 1}
