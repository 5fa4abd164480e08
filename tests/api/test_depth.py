"""A request is nested 256 levels deep at most, wherever it comes in; what is taken can be worked on."""

import pytest

from api.bodies import DEPTH_MAX
from tests.api.conftest import Api
from tests.api.errors import error_of

MESSAGES = b'"messages":[{"role":"user","content":"one two three"}]'
# Brackets, quotes and backslashes that are none of the structure.
TEXTS = rb'"[[{{", "\"[", "\\", "\\\"{", "\n\u005b\\", "[\\\\"'


def nested(levels: int, inner: bytes = b"") -> bytes:
    """A request that is so deep, in a field that the model may know."""
    return b'{%s,"x":%s%s%s}' % (MESSAGES, b"[" * (levels - 1), inner, b"]" * (levels - 1))


def mixed(levels: int) -> bytes:
    """As deep, with an object at every second level and something wide beside each."""
    wide = b"[" + b",".join([b"[]"] * 300) + b"]"
    text = b"[[]]"
    for level in range(levels - 3):
        text = b'{"a":%s,"b":%s}' % (wide, text) if level % 2 else b"[%s,%s]" % (wide, text)
    return b'{%s,"x":%s}' % (MESSAGES, text)


def submission(request: bytes) -> bytes:
    return b'{"model":"echo","request":%s}' % request


def question(request: bytes) -> bytes:
    return b'{"model":"echo",%s' % request[1:]


@pytest.mark.usefixtures("echo_worker", "projector")
async def test_what_is_as_deep_as_it_may_be_is_worked_on_and_shown(api: Api) -> None:
    for request in [nested(DEPTH_MAX), mixed(DEPTH_MAX), nested(DEPTH_MAX, TEXTS)]:
        answer = await api.http.post("/v1/jobs", content=submission(request))
        assert answer.status_code == 202, answer.text
        job = await api.job(answer.json()["id"], wait=10)
        assert job["status"] == "completed"
        events = await api.http.get(f"/v1/jobs/{job['id']}/events")
        assert request in events.content
        listed = await api.http.get("/v1/jobs", params={"min_position": job["position_in_log"]})
        assert job["id"] in [one["id"] for one in listed.json()["jobs"]]
        asked = await api.http.post("/v1/chat/completions", content=question(request))
        assert asked.status_code == 200


@pytest.mark.usefixtures("idle_worker")
async def test_what_is_deeper_is_refused(api: Api) -> None:
    for request in [
        nested(DEPTH_MAX + 1),
        nested(DEPTH_MAX + 1, TEXTS),
        mixed(DEPTH_MAX + 1),
        nested(600),
        nested(10_000),
        nested(1_000_000),
        b"{%s}" % (b'"messages":' + b"[" * 10_000 + b"]" * 10_000),
    ]:
        for path, body in [("jobs", submission(request)), ("chat/completions", question(request))]:
            error = error_of(await api.http.post(f"/v1/{path}", content=body), 400, "invalid_json")
            assert error["message"] == "the body is nested too deeply; takes 256 levels"


async def test_other_bodies_that_are_deep_are_refused(api: Api) -> None:
    deep = b"[" * 10_000 + b"]" * 10_000
    for path, field in [
        ("/v1/jobs", b"metadata"),
        ("/v1/jobs/cancel", b"queue"),
        ("/v1/queues/default/pause", b"reason"),
        ("/v1/chat/completions", b"stream_options"),
    ]:
        answer = await api.http.post(path, content=b'{"model":"echo","%s":%s}' % (field, deep))
        assert answer.status_code == 422, answer.text


async def test_brackets_in_texts_are_no_levels(api: Api, idle_worker: None) -> None:
    request = b'{"messages":[{"content":"%s"}]}' % (b"[{" * 5_000)
    answer = await api.http.post("/v1/jobs", content=submission(request))
    assert answer.status_code == 202
