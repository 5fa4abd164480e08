"""Ids, backoff, lane names and the order of claims."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.claim_policy import OLDEST_EVERY, lanes_to_read, takes_oldest_first
from core.errors import FromTheFuture
from core.ids import RANDOM_BITS, SHARDS_MAX, is_job_id, job_id, shard_of
from core.keys import LaneName, shard_for
from core.log import decode_event
from core.retry import BACKOFF_CEILING_MS, backoff_ms
from core.states import Lane
from core.upcast import SCHEMA

MILLISECONDS = st.integers(0, 2**45 - 1)
RANDOM = st.integers(0, 2**RANDOM_BITS - 1)
SHARDS = st.integers(0, SHARDS_MAX - 1)


@given(MILLISECONDS, RANDOM, SHARDS)
def test_an_id_tells_its_shard(now_ms: int, random: int, shard: int) -> None:
    text = job_id(now_ms, random, shard)
    assert is_job_id(text)
    assert shard_of(text) == shard


@given(MILLISECONDS, MILLISECONDS, RANDOM, RANDOM)
def test_ids_sort_by_time(early: int, late: int, one: int, other: int) -> None:
    if early < late:
        assert job_id(early, one, 0) < job_id(late, other, 0)


@pytest.mark.parametrize("text", ["", "nope", "0" * 18, "0" * 20, "0" * 18 + "u", "0" * 18 + "é"])
def test_what_is_no_id_is_told_apart(text: str) -> None:
    assert not is_job_id(text)


@given(st.text(), st.integers(1, SHARDS_MAX))
def test_a_name_has_one_shard_among_those_there_are(text: str, shards: int) -> None:
    assert 0 <= shard_for(text, shards) < shards


@given(st.integers(1, 50), st.floats(0, 1))
def test_backoff_grows_to_a_ceiling(attempt: int, jitter: float) -> None:
    assert 0 <= backoff_ms(attempt, jitter) <= BACKOFF_CEILING_MS
    assert backoff_ms(attempt, 1.0) <= backoff_ms(attempt + 1, 1.0)


def test_what_the_server_asked_for_is_a_lower_bound() -> None:
    assert backoff_ms(1, 0.0, retry_after_ms=5_000) == 5_000


def test_a_lane_s_name_is_read_back_even_if_the_model_s_has_colons() -> None:
    lane = LaneName(Lane.LOW, "batch", "qwen2.5:7b-instruct")
    assert LaneName.parse(str(lane)) == lane


def test_urgent_lanes_come_first_and_models_of_one_priority_take_turns() -> None:
    known = [
        LaneName(lane, "default", model)
        for lane in (Lane.NORMAL, Lane.FRONT, Lane.LOW)
        for model in ("a", "b")
    ]
    first, second = (lanes_to_read(known, (), {"a", "b"}, turn) for turn in (0, 1))
    assert [str(name) for name in first] == [
        "front:default:a",
        "front:default:b",
        "normal:default:a",
        "normal:default:b",
        "low:default:a",
        "low:default:b",
    ]
    assert [name.model for name in second] == ["b", "a"] * 3


def test_a_worker_reads_only_what_it_serves() -> None:
    known = [LaneName(Lane.NORMAL, queue, model) for queue in ("x", "y") for model in ("a", "b")]
    assert lanes_to_read(known, ("x",), {"b"}, 0) == [LaneName(Lane.NORMAL, "x", "b")]
    assert lanes_to_read(known, (), set(), 0) == []


def test_low_priority_moves_as_every_so_many_claims_begin_with_the_oldest() -> None:
    assert sum(takes_oldest_first(turn) for turn in range(10 * OLDEST_EVERY)) == 10


def test_what_a_newer_release_wrote_is_refused_and_not_dropped() -> None:
    with pytest.raises(FromTheFuture, match="upgrade"):
        decode_event("teleported", b"{}")
    with pytest.raises(FromTheFuture, match="schema"):
        decode_event("queued", b'{"type":"queued"}', SCHEMA + 1)
