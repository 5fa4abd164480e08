"""What a broken or hostile client sends costs it its connection, and nobody else anything."""

import asyncio
import logging
from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec import structs

from cli.protocol import WireLimits
from core.store import EventStore
from tests.api.conftest import CHAT, Api, serving_api
from tests.api.wire import Line, get, line_to, post

# Short times for what ends a connection that is lost anyway. Those for a head and a body are the
# usual ones: a machine that stalls must not cut off a client that did nothing wrong.
LIMITS = WireLimits(
    head_bytes_max=4_096,
    url_bytes_max=1_024,
    linger_seconds=0.3,
    unread_seconds=0.3,
)
HASTY = structs.replace(LIMITS, head_seconds=1.0, body_seconds=1.0)
SUBMISSION = msgspec.json.encode({"model": "echo", "request": CHAT})
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture
async def api(store: EventStore, idle_worker: None) -> AsyncIterator[Api]:
    async with serving_api(store, limits=LIMITS, max_body_bytes=65_536) as api:
        yield api


@pytest.fixture
async def line(api: Api) -> AsyncIterator[Line]:
    async with line_to(api.http.base_url) as line:
        yield line


@pytest.fixture
async def hasty_line(store: EventStore, idle_worker: None) -> AsyncIterator[Line]:
    """A connection to an API that is soon out of patience."""
    async with serving_api(store, limits=HASTY) as api, line_to(api.http.base_url) as line:
        yield line


@pytest.fixture(autouse=True)
async def nothing_is_said_or_broken(
    api: Api, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[None]:
    """Whatever a test did, others are served and no log has a stack trace."""
    yield
    assert (await api.http.get("/healthz")).status_code == 200
    records = caplog.get_records("call")
    assert not [record for record in records if record.levelno >= logging.ERROR]
    assert not [record for record in records if record.exc_info]


async def test_giant_headers_are_refused(line: Line) -> None:
    await line.send(get("/healthz", f"X: {'x' * 5_000}"))
    error = (await line.answer()).error(431, "headers_too_large")
    assert error["message"] == "the headers are larger than 4096 bytes"
    await line.is_gone()


async def test_a_header_without_an_end_is_refused_long_before_its_client_tires(line: Line) -> None:
    await line.send(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(50):
        await line.send(b"x" * 100)
    (await line.answer()).error(431, "headers_too_large")
    await line.is_gone()


async def test_headers_up_to_the_limit_are_read(line: Line) -> None:
    bare = len(get("/healthz", "X: "))
    await line.send(get("/healthz", f"X: {'x' * (4_096 - bare)}"))
    assert (await line.answer()).status == 200
    await line.send(get("/healthz", f"X: {'x' * (4_097 - bare)}"))
    assert (await line.answer()).status == 431


async def test_a_body_in_the_same_packet_is_no_part_of_the_headers(line: Line) -> None:
    body = msgspec.json.encode({"model": "echo", "request": CHAT | {"text": "x" * 50_000}})
    await line.send(post("/v1/jobs", body) + get("/healthz"))
    assert (await line.answer()).status == 202
    assert (await line.answer()).status == 200


async def test_a_long_url_is_refused(line: Line) -> None:
    await line.send(get(f"/{'x' * 1_024}"))
    error = (await line.answer()).error(414, "url_too_long")
    assert error["message"] == "the URL is longer than 1024 bytes"
    await line.is_gone()


async def test_trailers_are_no_headers_and_have_the_same_limit(line: Line) -> None:
    chunk = b"%x\r\n%s\r\n0\r\n" % (len(SUBMISSION), SUBMISSION)
    for _ in range(2):
        await line.send(post("/v1/jobs", chunk + b"Idempotency-Key: one\r\n\r\n", CHUNKED))
        assert (await line.answer()).status == 202
    await line.send(post("/v1/jobs", chunk + b"X: " + b"x" * 9_000, CHUNKED))
    (await line.answer()).error(431, "headers_too_large")
    await line.is_gone()


async def test_garbage_is_answered_and_cut_off(api: Api) -> None:
    for garbage in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # https:// to a port that has none
        b"\x00" * 100,
        b"hello\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost test\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n",
        b"CONNECT other:80 HTTP/1.1\r\n\r\n",
        post("/v1/jobs", b"{}", "Content-Length: 7"),  # two lengths
        post("/v1/jobs", b"0\r\n\r\n", CHUNKED, "Content-Length: 7"),  # a length and chunks
        post("/v1/jobs", b"x\r\n", CHUNKED),  # a chunk of no length
        post("/v1/jobs", b"", length=-1),
    ]:
        async with line_to(api.http.base_url) as line:
            await line.send(garbage)
            (await line.answer()).error(400, "invalid_http")
            await line.is_gone()


async def test_odd_requests_that_are_valid_are_answered(api: Api) -> None:
    for request, status in [
        (b"OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n", {404}),
        (b"GET http://test/healthz HTTP/1.1\r\nHost: test\r\n\r\n", {200}),
        (b"GET /%2e%2e/%00 HTTP/1.1\r\nHost: test\r\n\r\n", {404}),
        (get("/healthz", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"), {200}),
        (get("/healthz", "Connection: Upgrade", "Upgrade: websocket"), {200}),
        (b"\r\n\r\n" + get("/healthz"), {200}),
        (b"GET /healthz HTTP/1.0\r\n\r\n", {200}),
        (get("/healthz", method="BREW"), {400}),
        (get("/healthz", method="TRACE"), {405}),
    ]:
        async with line_to(api.http.base_url) as line:
            await line.send(request)
            assert (await line.answer()).status in status, request


async def test_what_follows_a_body_that_is_longer_than_it_said_is_no_part_of_it(
    line: Line,
) -> None:
    await line.send(post("/v1/jobs", SUBMISSION + b"!!!!", length=len(SUBMISSION)))
    assert (await line.answer()).status == 202
    assert await line.rest() == b""


async def test_slow_headers_are_given_up(hasty_line: Line) -> None:
    await hasty_line.send(b"GET /healthz HTTP/1.1\r\n")
    error = (await hasty_line.answer()).error(408, "headers_too_slow")
    assert error["message"] == "the headers did not come within 1 s"
    await hasty_line.is_gone()


async def test_headers_that_trickle_in_are_given_up_all_the_same(hasty_line: Line) -> None:
    async def trickle() -> None:
        while True:
            await hasty_line.send(b"X: x\r\n")
            await asyncio.sleep(0.05)

    await hasty_line.send(b"GET /healthz HTTP/1.1\r\n")
    trickling = asyncio.create_task(trickle())
    (await hasty_line.answer()).error(408, "headers_too_slow")
    trickling.cancel()


async def test_the_next_request_has_as_much_time_for_its_headers(hasty_line: Line) -> None:
    await hasty_line.send(get("/healthz") + b"GET ")
    assert (await hasty_line.answer()).status == 200
    (await hasty_line.answer()).error(408, "headers_too_slow")
    await hasty_line.is_gone()


async def test_a_client_that_says_nothing_is_closed(hasty_line: Line) -> None:
    assert await hasty_line.rest() == b""


async def test_a_slow_body_is_given_up(hasty_line: Line) -> None:
    await hasty_line.send(post("/v1/jobs", SUBMISSION[:9], length=len(SUBMISSION)))
    error = (await hasty_line.answer()).error(408, "body_too_slow")
    assert error["message"].endswith("within the 1 s of BODY_TIMEOUT_SECONDS")
    await hasty_line.is_gone()


async def test_a_body_that_trickles_in_is_given_up_all_the_same(hasty_line: Line) -> None:
    async def trickle() -> None:
        for _ in range(100):
            await hasty_line.send(b"1\r\n \r\n")
            await asyncio.sleep(0.05)

    await hasty_line.send(post("/v1/jobs", b"", CHUNKED))
    trickling = asyncio.create_task(trickle())
    (await hasty_line.answer()).error(408, "body_too_slow")
    trickling.cancel()


async def test_a_request_that_is_whole_has_all_the_time_it_needs(hasty_line: Line) -> None:
    await hasty_line.send(post("/v1/jobs", SUBMISSION, "Prefer: wait=2"))
    answer = await hasty_line.answer()
    assert (answer.status, msgspec.json.decode(answer.body)["status"]) == (202, "queued")


async def test_a_client_that_hangs_up_in_its_body_leaves_nothing(
    api: Api, store: EventStore
) -> None:
    async with line_to(api.http.base_url) as line:
        await line.send(post("/v1/jobs", SUBMISSION[:-1], length=len(SUBMISSION)))
        line.end()
    assert (await api.http.get("/healthz")).status_code == 200
    assert not [entry async for entry in store.client.scan_iter("*job*")]


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(line: Line) -> None:
    await line.send(post("/v1/jobs", b"{", length=65_537))
    (await line.answer()).error(413, "body_too_large")
    await line.is_gone()


async def test_whoever_sends_on_after_the_answer_can_read_it_and_is_cut_off(line: Line) -> None:
    await line.send(post("/v1/jobs", b"", CHUNKED))
    for _ in range(200):
        await line.send(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
    (await line.answer()).error(413, "body_too_large")
    await line.is_gone()


async def test_an_answer_is_not_lost_on_who_expects_to_go_on(line: Line) -> None:
    await line.send(post("/v1/jobs", b"", "Expect: 100-continue", length=65_537))
    (await line.answer()).error(413, "body_too_large")


async def test_who_expects_to_go_on_is_told_to(line: Line) -> None:
    await line.send(post("/v1/jobs", b"", "Expect: 100-continue", length=len(SUBMISSION)))
    assert (await line.answer()).status == 100
    await line.send(SUBMISSION)
    assert (await line.answer()).status == 202


async def test_requests_in_one_packet_are_answered_in_their_order(line: Line) -> None:
    await line.send(get("/healthz") + post("/v1/jobs", SUBMISSION) + get("/v1/nothing"))
    assert [(await line.answer()).status for _ in range(3)] == [200, 202, 404]


async def test_garbage_after_a_request_does_not_spoil_its_answer(line: Line) -> None:
    await line.send(post("/v1/jobs", SUBMISSION, "Prefer: wait=1") + b"\x00garbage")
    assert (await line.answer()).status == 202
    assert await line.rest() == b""


async def test_a_client_that_reads_nothing_is_cut_off(line: Line, api: Api) -> None:
    job_id = await api.submit(request=CHAT | {"text": "x" * 60_000})
    line.read_nothing()
    await line.send(get(f"/v1/jobs/{job_id}/events") * 200)  # More than the system holds for us.
    await line.is_cut_off()
