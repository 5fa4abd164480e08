"""The guard by itself: whatever is sent, nothing goes through without a key."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from api.guard import OPEN_PATHS, Guard
from api.keyring import OPERATOR, Keyring
from core.access import ANYBODY, Caller
from core.bells import Bells
from core.key_book import KeyBook
from core.redis import connect

SECRET = "of-the-operator"
PATHS = st.one_of(
    st.sampled_from(sorted(OPEN_PATHS)).map(lambda path: path + "/"),
    st.sampled_from(["/v1/jobs", "/healthz/../v1/jobs", "//healthz", "/Healthz", "/healthz?x"]),
    st.text().map(lambda text: f"/{text}").filter(lambda path: path not in OPEN_PATHS),
)
VALUES = st.one_of(
    st.binary(),
    st.binary().map(lambda secret: b"Bearer " + secret),
    st.sampled_from([b"Bearer", b"bearer ", b"Bearer of-the-operato", b"of-the-operator"]),
    st.sampled_from(
        [b"Basic of-the-operator", b"Bearer  of the operator", b"Bearer\tof-the-operator"]
    ),
)
NAMES = st.one_of(
    st.sampled_from([b"authorization", b"x-api-key", b"proxy-authorization", b"cookie"]),
    st.binary(),
)


def guard_of(client: Redis, *, required: bool, seen: list[Caller]) -> Guard:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["state"]["caller"])

    book = KeyBook(client)
    book._read_at = book._monotonic()  # There are no others.
    return Guard(app, Keyring(book, Bells(client), SECRET), required=required)


async def asked(guard: Guard, path: str, *headers: tuple[bytes, bytes]) -> list[dict[str, Any]]:
    """What a request is answered, if that is by the guard itself."""
    answer: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        answer.append(message)

    scope: Any = {"type": "http", "path": path, "headers": list(headers), "state": {}}
    await guard(scope, None, send)  # type: ignore[arg-type]
    return answer


@given(path=PATHS, headers=st.lists(st.tuples(NAMES, VALUES)))
async def test_nothing_but_a_key_opens_a_path(
    path: str, headers: list[tuple[bytes, bytes]]
) -> None:
    seen: list[Caller] = []
    guard = guard_of(connect("redis://127.0.0.1:1"), required=True, seen=seen)
    start, _ = await asked(guard, path, *headers)
    assert (start["status"], seen) == (401, [])
    assert SECRET.encode() not in repr(start).encode()


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER   "])
async def test_the_key_opens_every_path(scheme: bytes) -> None:
    seen: list[Caller] = []
    guard = guard_of(connect("redis://127.0.0.1:1"), required=True, seen=seen)
    header = (b"authorization", scheme + SECRET.encode())
    assert await asked(guard, "/v1/jobs", (b"host", b"here"), header) == []
    assert seen == [OPERATOR]


async def test_health_is_shown_to_nobody_in_particular() -> None:
    seen: list[Caller] = []
    guard = guard_of(connect("redis://127.0.0.1:1"), required=True, seen=seen)
    for path in OPEN_PATHS:
        await asked(guard, path, (b"authorization", b"Bearer " + SECRET.encode()))
    assert {(caller.key, caller.scopes) for caller in seen} == {(None, frozenset())}


async def test_where_no_key_is_required_whoever_has_none_is_anybody() -> None:
    seen: list[Caller] = []
    guard = guard_of(connect("redis://127.0.0.1:1"), required=False, seen=seen)
    await asked(guard, "/v1/jobs")
    await asked(guard, "/v1/jobs", (b"authorization", b"Bearer ollama"))
    await asked(guard, "/v1/jobs", (b"authorization", b"Bearer " + SECRET.encode()))
    assert seen == [ANYBODY, ANYBODY, OPERATOR]
