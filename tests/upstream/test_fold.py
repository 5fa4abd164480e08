"""Folding a stream is the inverse of splitting an answer, and no chunk breaks it."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.upstream.fold import Folding, Unfolded, usage_in
from core.events import Kind, Usage

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "stop", "index"]),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(st.sampled_from(["index", "delta", "text", "a"]), values, max_size=3)
    ),
    max_leaves=6,
)
CHOICES = st.lists(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("index", "delta", "text", "tool_calls", "finish_reason"), JSON)
    ),
    max_size=3,
)


@st.composite
def split_texts(draw: st.DrawFn) -> list[str]:
    """A text, cut anywhere."""
    text = draw(TEXT)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)))))
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]


def folded(kind: Kind, *choices: dict[str, Any]) -> Any:
    folding = Folding(kind)
    for choice in choices:
        folding.add({"choices": [choice]})
    return msgspec.json.decode(folding.body())["choices"]


@settings(deadline=None)
@given(st.lists(split_texts(), min_size=1, max_size=3))
def test_a_chat_split_anywhere_and_folded_is_the_chat_again(texts: list[list[str]]) -> None:
    deltas = [
        {"index": index, "delta": {"content": piece, "reasoning_content": piece * 2}}
        for index, pieces in enumerate(texts)
        for piece in pieces
    ]
    messages = [choice["message"] for choice in folded(Kind.CHAT, *deltas)]
    assert [message["content"] for message in messages] == ["".join(pieces) for pieces in texts]
    assert [message["reasoning_content"] for message in messages] == [
        "".join(piece * 2 for piece in pieces) for pieces in texts
    ]


@settings(deadline=None)
@given(split_texts())
def test_a_completion_split_anywhere_and_folded_is_the_text_again(pieces: list[str]) -> None:
    (choice,) = folded(Kind.COMPLETIONS, *({"index": 0, "text": piece} for piece in pieces))
    assert choice == {"index": 0, "text": "".join(pieces)}


@settings(deadline=None)
@given(st.lists(split_texts(), min_size=1, max_size=3))
def test_arguments_of_tools_split_anywhere_and_folded_are_the_arguments_again(
    arguments: list[list[str]],
) -> None:
    deltas = [
        {"delta": {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}}
        for index, pieces in enumerate(arguments)
        for piece in pieces
    ]
    (choice,) = folded(Kind.CHAT, *deltas)
    assert choice["message"]["tool_calls"] == [
        {"function": {"arguments": "".join(pieces)}} for pieces in arguments
    ]


@settings(deadline=None)
@given(st.sampled_from([Kind.CHAT, Kind.COMPLETIONS]), st.lists(CHOICES, max_size=4))
def test_whatever_a_chunk_holds_it_is_folded_or_refused(
    kind: Kind, chunks: list[list[dict[str, Any]]]
) -> None:
    folding = Folding(kind)
    try:
        for choices in chunks:
            folding.add({"choices": choices})
    except Unfolded:
        return
    body = folding.body()
    assert body == folding.body()
    assert isinstance(msgspec.json.decode(body)["choices"], list)


def test_log_probabilities_are_strung_together() -> None:
    def choice(token: str) -> dict[str, Any]:
        return {"delta": {"content": token}, "logprobs": {"content": [{"token": token}]}}

    (said,) = folded(Kind.CHAT, {"delta": {}, "logprobs": None}, choice("a"), choice("b"))
    assert said["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}]}


def test_likely_tokens_are_kept_even_where_one_is_named_index() -> None:
    likely = [None, {"index": 0}, {"index": 0, "a": -1.5}]
    said = folded(Kind.COMPLETIONS, *({"logprobs": {"top_logprobs": [one]}} for one in likely))
    assert said == [{"index": 0, "logprobs": {"top_logprobs": likely}}]


def test_a_role_or_a_reason_that_is_said_twice_is_kept_once() -> None:
    said = {"delta": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
    (choice,) = folded(Kind.CHAT, said, said)
    assert choice["message"] == {"role": "assistant", "content": "aa"}
    assert choice["finish_reason"] == "stop"


def test_an_answer_is_finished_when_every_choice_is() -> None:
    folding = Folding(Kind.CHAT)
    assert not folding.is_finished
    folding.add({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}, {"index": 1}]})
    assert not folding.is_finished
    folding.add({"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]})
    assert folding.is_finished


USAGES: list[tuple[bytes, Usage | None]] = [
    (b'{"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}', Usage(1, 2, 3)),
    (b'{"usage":{"prompt_tokens":1,"completion_tokens":2}}', Usage(1, 2, 3)),
    (b'{"usage":{"prompt_tokens":1,"completion_tokens":null,"more":{}}}', Usage(1, 0, 1)),
    (b'{"usage":null}', None),
    (b"{}", None),
    (b'{"usage":{"prompt_tokens":"many"}}', None),
    (b'{"usage":{"prompt_tokens":-1}}', None),  # The log would not take it.
    (b"[]", None),
    (b"<html>", None),
]


@pytest.mark.parametrize(("body", "usage"), USAGES)
def test_usage_is_what_the_server_counted_if_it_can_be_read(
    body: bytes, usage: Usage | None
) -> None:
    assert usage_in(body) == usage
