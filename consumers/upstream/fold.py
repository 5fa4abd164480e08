"""A stream's chunks folded into the body that the server would have sent without streaming. Pure.

OpenAI's rule for deltas (API reference, "The chat completion chunk object"): texts are appended,
lists whose items carry an `index` are merged item by item, other lists are strung together, and
anything else is replaced. Fields that nobody here knows go by the same rule: none is dropped.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct

from core.events import Count, Kind, Usage

_OBJECTS: Final = {Kind.CHAT: "chat.completion", Kind.COMPLETIONS: "text_completion"}
_NAMES: Final = frozenset(
    {"id", "type", "role", "object", "finish_reason"}
)  # Texts, but not appended.
_SERIES: Final = frozenset({"top_logprobs"})  # Lists whose items are maps from tokens: no indexes.
_OWN: Final = frozenset(
    {"object", "choices", "usage", "obfuscation"}
)  # What a stream has in its own way.


class Unfolded(ValueError):
    """A chunk has not the shape that the kind's stream has."""


class UsageFields(Struct):
    """OpenAI's usage object, as far as it is counted; some servers send null for a count."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None


class _Usage(Struct):
    usage: UsageFields | None = None


class Folding:
    """The answer so far."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._body: dict[str, Any] = {"object": _OBJECTS[kind]}
        self._choices: dict[int, dict[str, Any]] = {}

    def add(self, chunk: dict[str, Any]) -> None:
        """Fold one chunk in. Raises Unfolded."""
        for name, value in chunk.items():
            if name not in _OWN and (value is not None or name not in self._body):
                self._body[name] = value
        if chunk.get("usage"):
            self._body["usage"] = chunk["usage"]
        try:
            for choice in chunk.get("choices") or ():
                changes = _object(choice)
                index = changes.pop("index", 0)
                if self._kind is Kind.CHAT:
                    changes["message"] = _object(changes.pop("delta", None) or {})
                if not isinstance(index, int):
                    raise TypeError(f"{index!r} is no index")
                merge(self._choices.setdefault(index, {"index": index}), changes)
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            raise Unfolded(f"a chunk of the stream has an unknown shape: {error}") from error

    @property
    def has_begun(self) -> bool:
        """Say whether there was a choice yet."""
        return bool(self._choices)

    @property
    def is_finished(self) -> bool:
        """Say whether every choice has its finish reason."""
        return bool(self._choices) and all(
            choice.get("finish_reason") for choice in self._choices.values()
        )

    def body(self) -> bytes:
        """The whole answer."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        if self._kind is Kind.CHAT:
            choices = [choice | {"message": _message(choice["message"])} for choice in choices]
        return msgspec.json.encode({**self._body, "choices": choices})

    @property
    def usage(self) -> Usage | None:
        """The tokens, if the server said."""
        return usage_in(msgspec.json.encode(self._body))


def _message(merged: dict[str, Any]) -> dict[str, Any]:
    """A message out of its deltas; a tool call's index is only of use to a stream."""
    message = {"role": "assistant", "content": None} | merged
    if isinstance(calls := message.get("tool_calls"), list):
        message["tool_calls"] = [_without_index(call) for call in calls]
    return message


def _object(value: Any) -> dict[str, Any]:
    """A copy of an object of JSON; a list of pairs is none, though Python would make one of it."""
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no object")
    return dict(value)


def _without_index(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    return {name: value for name, value in item.items() if name != "index"}


def merge(known: dict[str, Any], changes: dict[str, Any]) -> None:
    """Fold a delta into what came before it."""
    for name, value in changes.items():
        before = known.get(name)
        if value is None:
            known.setdefault(name, None)
        elif isinstance(value, str) and isinstance(before, str) and name not in _NAMES:
            known[name] = before + value
        elif isinstance(value, dict):
            if not isinstance(before, dict):
                known[name] = before = {}
            merge(before, value)
        elif isinstance(value, list):
            items = before if isinstance(before, list) else []
            known[name] = [*items, *value] if name in _SERIES else _merge_list(items, value)
        else:
            known[name] = value


def _merge_list(before: list[Any], items: list[Any]) -> list[Any]:
    merged = list(before)
    for item in items:
        begun = _begun(merged, item)
        if begun is None:
            merged.append(item)
        else:
            merge(begun, _without_index(item))
    return merged


def _begun(merged: list[Any], item: Any) -> dict[str, Any] | None:
    """What an item goes on with: the last of its index, unless that has another id.

    Some servers give every tool call index 0.
    """
    if not isinstance(item, dict) or not isinstance(item.get("index"), int):
        return None
    for one in reversed(merged):
        if isinstance(one, dict) and one.get("index") == item["index"]:
            is_other = item.get("id") and one.get("id") and item["id"] != one["id"]
            return None if is_other else one
    return None


def usage_in(body: bytes) -> Usage | None:
    """The usage of a body; None if it has none that can be read."""
    try:
        usage = msgspec.json.decode(body, type=_Usage).usage
    except msgspec.DecodeError:
        return None
    if usage is None:
        return None
    prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
    return Usage(prompt, completion, usage.total_tokens or prompt + completion)
