"""Whole answers, and every way to split one into the chunks of a stream: what folding has to undo."""

from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

# Short, so that what goes wrong can be read.
TEXT = st.text('ab\n"\\é你👍', max_size=6)
NUMBERS = st.integers(-9, 9) | st.floats(-9, 9)
VALUES = st.none() | st.booleans() | NUMBERS | TEXT
LIKELY = st.dictionaries(st.sampled_from(["a", "index", "id"]), NUMBERS, max_size=2)
TOKENS = st.lists(
    st.fixed_dictionaries(
        {
            "token": TEXT,
            "logprob": NUMBERS,
            "bytes": st.none() | st.lists(st.integers(0, 255), max_size=2),
            "top_logprobs": st.lists(
                st.fixed_dictionaries({"token": TEXT, "logprob": NUMBERS}), max_size=2
            ),
        }
    ),
    max_size=3,
)
CHAT_LOGPROBS = st.fixed_dictionaries({"content": st.none() | TOKENS, "refusal": st.none()})
COMPLETION_LOGPROBS = st.fixed_dictionaries(
    {
        "tokens": st.lists(TEXT, max_size=3),
        "token_logprobs": st.lists(st.none() | NUMBERS, max_size=3),
        "top_logprobs": st.lists(st.none() | LIKELY, max_size=3),
        "text_offset": st.lists(st.integers(0, 9), max_size=3),
    }
)
FINISH_REASONS = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])
TOOL_CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": TEXT, "arguments": TEXT}),
        },
        optional={"extra": TEXT},
    ),
    min_size=1,
    max_size=3,
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | TEXT},
    optional={
        "refusal": st.none() | TEXT,
        "reasoning_content": TEXT,
        "reasoning": st.none() | TEXT,
        "tool_calls": TOOL_CALLS,
        "function_call": st.fixed_dictionaries({"name": TEXT, "arguments": TEXT}),
        "audio": st.fixed_dictionaries({"id": st.just("x"), "data": TEXT, "expires_at": NUMBERS}),
        "annotations": st.lists(
            st.fixed_dictionaries({"type": st.just("url_citation"), "url": TEXT}), max_size=2
        ),
        "unheard_of": VALUES,
    },
)
CHOICES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "chat": st.fixed_dictionaries(
        {"message": MESSAGES, "finish_reason": FINISH_REASONS},
        optional={"logprobs": st.none() | CHAT_LOGPROBS, "unheard_of": VALUES},
    ),
    "completions": st.fixed_dictionaries(
        {"text": TEXT, "finish_reason": FINISH_REASONS},
        optional={"logprobs": st.none() | COMPLETION_LOGPROBS, "stop_reason": st.integers(0, 9)},
    ),
}
OTHERS = st.fixed_dictionaries(
    {"id": st.just("x"), "created": st.integers(0, 9), "model": st.just("m")},
    optional={
        "system_fingerprint": st.none() | TEXT,
        "service_tier": st.none() | TEXT,
        "timings": st.dictionaries(st.sampled_from("ab"), NUMBERS, max_size=2),
        "unheard_of": VALUES,
        "citations": st.lists(TEXT, max_size=2),
    },
)
USAGE = st.fixed_dictionaries({"prompt_tokens": st.integers(0, 9), "more": LIKELY})


@st.composite
def answers(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """A whole answer."""
    choices: list[dict[str, Any]] = draw(st.lists(CHOICES[kind], min_size=1, max_size=3))
    for index, choice in enumerate(choices):
        choice["index"] = index
        for number, tool in enumerate(choice.get("message", {}).get("tool_calls", ())):
            tool["id"] = f"call_{number}"
    name = "chat.completion" if kind == "chat" else "text_completion"
    return {**draw(OTHERS), "object": name, "choices": choices, "usage": draw(USAGE)}


@st.composite
def chunks_of(draw: st.DrawFn, answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The answer as a stream: a choice a chunk, each in order, and all of them mixed."""
    waiting = []
    for choice in answer["choices"]:
        whole = {name: value for name, value in choice.items() if name != "index"}
        if "message" in whole:
            whole["delta"] = _numbered(whole.pop("message"))
        waiting.append([piece | {"index": choice["index"]} for piece in draw(_pieces(whole))])
    chunks = []
    while any(waiting):
        pieces = draw(st.sampled_from([pieces for pieces in waiting if pieces]))
        chunks.append({"choices": [pieces.pop(0)], "usage": None})
    others = {name: value for name, value in answer.items() if name not in {"choices", "usage"}}
    at = draw(st.integers(0, len(chunks) - 1))
    chunks[at] |= others | {"object": "a.chunk"}
    return [*chunks, {"choices": [], "usage": answer["usage"]}]


def _numbered(message: dict[str, Any]) -> dict[str, Any]:
    if "tool_calls" not in message:
        return message
    calls = [call | {"index": index} for index, call in enumerate(message["tool_calls"])]
    return message | {"tool_calls": calls}


@st.composite
def _pieces(draw: st.DrawFn, whole: dict[str, Any]) -> list[dict[str, Any]]:
    """Objects that are `whole` when they are folded: texts and lists cut, and all in any order."""
    count = draw(st.integers(1, 4))
    pieces: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, value in whole.items():
        parts = draw(_parts(name, value))
        places = sorted(draw(st.lists(st.integers(0, 9), min_size=len(parts), max_size=len(parts))))
        for place, part in _apart(places, parts):
            while place >= len(pieces):
                pieces.append({})
            pieces[place][name] = part
    return pieces


def _apart(places: list[int], parts: list[Any]) -> list[tuple[int, Any]]:
    """Parts in their order, no two in the same place."""
    taken: list[tuple[int, Any]] = []
    for place, part in zip(places, parts, strict=True):
        taken.append((max(place, taken[-1][0] + 1 if taken else 0), part))
    return taken


@st.composite
def _parts(draw: st.DrawFn, name: str, value: Any) -> list[Any]:
    """What is sent of a field, in order."""
    if isinstance(value, str) and name not in {"id", "type", "role", "finish_reason"}:
        return draw(_cut(value))
    if isinstance(value, dict):
        return draw(_pieces(value))
    if isinstance(value, list) and name == "tool_calls":
        calls = []
        for call in value:
            rest = {key: part for key, part in call.items() if key != "index"}
            calls += [[piece | {"index": call["index"]}] for piece in draw(_pieces(rest))]
        return calls
    if isinstance(value, list):
        return draw(_cut(value))
    return [value]


@st.composite
def _cut(draw: st.DrawFn, whole: Any) -> list[Any]:
    """A text or a list in pieces, some of them empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=3)))
    return [whole[start:end] for start, end in pairwise([0, *cuts, len(whole)])]
