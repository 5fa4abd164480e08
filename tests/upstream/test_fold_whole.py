"""Whatever an answer holds, and however it was split into chunks, folding gives it back."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.openai.schemas import usage_chunk, whole_chunk
from consumers.upstream.fold import Folding
from core.events import Kind
from tests.upstream.splitting import answers, chunks_of


def folded(kind: Kind, chunks: list[dict[str, Any]]) -> Any:
    folding = Folding(kind)
    for chunk in chunks:
        folding.add(msgspec.json.decode(msgspec.json.encode(chunk)))
    assert folding.is_finished
    return msgspec.json.decode(folding.body())


@pytest.mark.parametrize("kind", [Kind.CHAT, Kind.COMPLETIONS])
@settings(deadline=None)
@given(data=st.data())
def test_an_answer_split_in_any_way_and_folded_is_the_answer_again(
    kind: Kind, data: st.DataObject
) -> None:
    answer = data.draw(answers(kind.value))
    chunks = data.draw(chunks_of(answer))
    assert folded(kind, chunks) == answer


@pytest.mark.parametrize("kind", [Kind.CHAT, Kind.COMPLETIONS])
@settings(deadline=None)
@given(data=st.data())
def test_an_answer_whose_chunks_have_expired_is_one_chunk_that_folds_to_it(
    kind: Kind, data: st.DataObject
) -> None:
    answer = data.draw(answers(kind.value))
    body = msgspec.json.encode(answer)
    usage = usage_chunk(body, kind)
    assert usage is not None
    assert folded(kind, [msgspec.json.decode(one) for one in (whole_chunk(body, kind), usage)]) == (
        answer
    )


def say(*deltas: dict[str, Any]) -> list[dict[str, Any]]:
    """A stream of one choice."""
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    return [*chunks, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]


def test_tool_calls_that_all_claim_to_be_the_first_stay_apart() -> None:
    def tool(call_id: str | None, arguments: str) -> dict[str, Any]:
        return {"index": 0, "id": call_id, "function": {"arguments": arguments}}

    deltas = [{"tool_calls": [tool(*call)]} for call in (("a", "1"), ("b", "2"), (None, "3"))]
    [choice] = folded(Kind.CHAT, say(*deltas))["choices"]
    assert choice["message"]["tool_calls"] == [
        {"id": "a", "function": {"arguments": "1"}},
        {"id": "b", "function": {"arguments": "23"}},
    ]


def test_two_pieces_of_one_tool_call_may_come_in_one_chunk() -> None:
    pieces = [{"index": 0, "function": {"arguments": text}} for text in ("{", "}")]
    [choice] = folded(Kind.CHAT, say({"tool_calls": pieces}))["choices"]
    assert choice["message"]["tool_calls"] == [{"function": {"arguments": "{}"}}]


def test_what_only_a_stream_has_is_not_in_the_answer() -> None:
    padded = say({"content": "a"})
    padded[0] |= {"obfuscation": "xyz", "object": "chat.completion.chunk"}
    answer = folded(Kind.CHAT, padded)
    assert "obfuscation" not in answer
    assert answer["object"] == "chat.completion"
