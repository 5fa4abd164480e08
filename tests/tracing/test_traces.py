"""One job is one trace: what an API and workers export of it, as a collector gets it."""

import asyncio

import pytest

from tests.tracing.collector import Collector, Span
from tests.tracing.conftest import Site
from tests.upstream.behaving import behaving, requests, says_hello
from tests.upstream.fake import answers

CLIENT_TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT_SPAN = "b7ad6b7169203331"
SAMPLED = f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-01"


def named(spans: list[Span], name: str) -> Span:
    [span] = [span for span in spans if span.name == name]
    return span


async def test_one_request_is_one_trace_of_four_spans(site: Site, collector: Collector) -> None:
    site.export_to(collector.url)
    site.api()
    site.worker("echo://?latency_ms=50")
    job_id = site.chat().headers["x-job-id"]
    spans = collector.of_job(job_id, 4)
    names = ("POST /v1/chat/completions", "wait", "process", "chat echo")
    request, wait, process, call = (named(spans, name) for name in names)
    assert [request.service, wait.service] == ["respool-api", "respool-worker"]
    assert {span.trace_id for span in (request, wait, process, call)} == {request.trace_id}
    assert request.parent_id == ""
    assert wait.parent_id == process.parent_id == request.span_id
    assert call.parent_id == process.span_id
    kinds = [span.kind for span in (request, wait, process, call)]
    assert kinds == ["SERVER", "INTERNAL", "CONSUMER", "CLIENT"]
    assert wait.end == process.start <= call.start < call.end <= process.end
    assert request.start < call.start < call.end < request.end
    assert call.end - call.start >= 50_000_000
    assert not any(span.is_error for span in (request, wait, process, call))


async def test_spans_have_the_names_and_attributes_of_the_conventions(
    site: Site, collector: Collector
) -> None:
    site.export_to(collector.url)
    site.api()
    site.worker()
    answer = site.chat()
    job_id, agent = answer.headers["x-job-id"], answer.request.headers["user-agent"]
    spans = collector.of_job(job_id, 4)
    request = named(spans, "POST /v1/chat/completions").attributes
    assert request["http.request.method"] == "POST"
    assert request["http.route"] == request["url.path"] == "/v1/chat/completions"
    assert request["http.response.status_code"] == 200
    assert request["http.response.header.x-request-id"] == [answer.headers["x-request-id"]]
    assert request["user_agent.original"] == agent
    wait = named(spans, "wait").attributes
    assert wait["messaging.operation.name"] == "wait"
    process = named(spans, "process").attributes
    about = {
        "messaging.system": "respool",
        "messaging.destination.name": "default",
        "messaging.message.id": job_id,
    }
    assert about.items() <= wait.items()
    assert about.items() <= process.items()
    assert process["messaging.operation.type"] == "process"
    assert (process["respool.attempt"], process["respool.outcome"]) == (1, "completed")
    call = named(spans, "chat echo").attributes
    assert call["gen_ai.operation.name"] == "chat"
    assert call["gen_ai.provider.name"] == "echo"
    assert call["gen_ai.request.model"] == call["gen_ai.response.model"] == "echo"
    assert call["gen_ai.response.finish_reasons"] == ["stop"]
    assert call["gen_ai.usage.input_tokens"] == call["gen_ai.usage.output_tokens"] == 3
    assert call["gen_ai.response.time_to_first_chunk"] >= 0
    everything = repr([span.attributes for span in spans])
    assert "one two" not in everything  # Nothing of what was asked or answered.


async def test_a_clients_trace_goes_through_to_the_inference_server(
    site: Site, collector: Collector
) -> None:
    site.export_to(collector.url)
    site.api()
    async with behaving(says_hello) as (_, upstream):
        await site.aside(site.worker, upstream.url, UPSTREAM_KIND="openai")
        answer = await site.aside(site.chat, traceparent=SAMPLED)
    spans = collector.of_job(answer.headers["x-job-id"], 4)
    assert {span.trace_id for span in spans} == {CLIENT_TRACE}
    assert named(spans, "POST /v1/chat/completions").parent_id == CLIENT_SPAN
    call = named(spans, "chat echo")
    [asked] = requests(upstream)
    assert asked.headers["traceparent"].startswith(f"00-{CLIENT_TRACE}-{call.span_id}-")
    assert "baggage" not in asked.headers
    assert (call.attributes["server.address"], call.attributes["server.port"]) == (
        "127.0.0.1",
        int(upstream.url.rpartition(":")[2]),
    )
    job = site.http.get(f"/v1/jobs/{answer.headers['x-job-id']}").json()
    assert job["trace_id"] == CLIENT_TRACE


@pytest.mark.parametrize("header", ["00-0-0-01", f"00-{'0' * 32}-{CLIENT_SPAN}-01", "x" * 600])
async def test_a_malformed_traceparent_starts_a_new_trace(
    site: Site, collector: Collector, header: str
) -> None:
    site.export_to(collector.url)
    site.api()
    site.http.get("/v1/models", headers={"traceparent": header})
    [request] = collector.until(1)
    assert request.parent_id == ""
    assert request.trace_id != "0" * 32


async def test_what_the_client_does_not_sample_is_not_recorded(
    site: Site, collector: Collector
) -> None:
    site.export_to(collector.url)
    site.api()
    site.worker()
    job_id = site.chat(traceparent=SAMPLED[:-1] + "0").headers["x-job-id"]
    site.chat()
    collector.until(4)
    assert CLIENT_TRACE not in {span.trace_id for span in collector.spans}
    submitted = site.http.get(f"/v1/jobs/{job_id}/events").json()["events"][0]
    assert submitted["traceparent"].startswith(f"00-{CLIENT_TRACE}-")
    assert int(submitted["traceparent"][-2:], 16) & 1 == 0


async def test_a_retry_is_a_second_wait_and_a_second_attempt(
    site: Site, collector: Collector
) -> None:
    site.export_to(collector.url)
    site.api()
    async with behaving(answers(500, {"error": {"message": "no"}}), says_hello) as (_, upstream):
        await site.aside(site.worker, upstream.url, UPSTREAM_KIND="openai")
        job = await site.aside(site.submit, 20)
    assert job["status"] == "completed"
    spans = collector.of_job(job["id"], 7)
    assert len(spans) == 7
    first, second = [span for span in spans if span.name == "process"]
    assert [one.attributes["respool.attempt"] for one in (first, second)] == [1, 2]
    assert [one.attributes["respool.outcome"] for one in (first, second)] == ["failed", "completed"]
    assert (first.is_error, second.is_error) == (True, False)
    assert first.attributes["error.type"] == "server_error"
    assert len([span for span in spans if span.name == "wait"]) == 2
    for attempt, call in zip(
        (first, second), [span for span in spans if span.name == "chat echo"], strict=True
    ):
        assert call.parent_id == attempt.span_id
        assert call.attributes.get("error.type") == attempt.attributes.get("error.type")


async def test_the_attempt_of_a_killed_worker_is_recorded_by_whoever_recovers_it(
    site: Site, collector: Collector
) -> None:
    site.export_to(collector.url)
    site.api()
    doomed = site.worker("echo://?latency_ms=600000")
    job_id = site.submit()["id"]
    while (job := site.http.get(f"/v1/jobs/{job_id}").json())["status"] != "running":
        await asyncio.sleep(0.01)
    doomed.kill()
    site.worker()
    assert site.ended(job_id)["status"] == "completed"
    attempts = collector.until(
        2, lambda one: one.name == "process" and one.attributes["respool.job.id"] == job_id
    )
    lost, done = attempts
    assert lost.attributes["error.type"] == "worker_lost"
    assert lost.attributes["messaging.client.id"] == job["worker"]
    assert lost.end - lost.start > 900_000_000  # Its lease of a second had to run out.
    assert lost.trace_id == done.trace_id
    assert lost.parent_id == done.parent_id != ""
    assert done.attributes["messaging.client.id"] != job["worker"]


async def test_a_job_that_came_without_a_trace_has_one_of_its_own(
    site: Site, collector: Collector
) -> None:
    site.api()  # Records nothing itself.
    site.export_to(collector.url)
    site.worker()
    spans = {}
    for _ in range(2):
        job_id = site.submit(wait=20)["id"]
        spans[job_id] = collector.of_job(job_id, 3)
    traces = [{span.trace_id for span in one} for one in spans.values()]
    assert [len(trace) for trace in traces] == [1, 1]
    assert traces[0] != traces[1]


async def test_probes_are_not_recorded_and_names_do_not_grow_with_paths(
    site: Site, collector: Collector
) -> None:
    site.export_to(collector.url)
    site.api()
    for path in ("/healthz", "/readyz", "/v1/jobs/unknown-1", "/v1/jobs/unknown-2", "/nothing"):
        site.http.get(path)
    site.http.request("PURGE", "/coffee")
    spans = collector.until(4)
    assert [span.attributes["http.response.status_code"] for span in spans] == [404, 404, 404, 404]
    assert not any(span.is_error for span in spans)  # They are the caller's.
    names = [span.name for span in spans]
    assert names == ["GET /v1/jobs/{job_id}", "GET /v1/jobs/{job_id}", "GET", "HTTP"]
