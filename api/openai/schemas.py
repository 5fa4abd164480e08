"""What OpenAI's clients send and get, as far as Respool has to know: the rest passes through."""

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from api.bodies import decode_body
from api.errors import ApiError
from api.schemas import ModelName
from core.events import Kind
from core.roster import Crew

_CHUNK_OBJECTS: Final = {Kind.CHAT: "chat.completion.chunk", Kind.COMPLETIONS: "text_completion"}


class StreamOptions(Struct, frozen=True):
    include_usage: bool | None = None


class Asked(Struct, frozen=True):
    """The fields of a request that Respool reads; it keeps the whole of it, byte for byte."""

    model: ModelName
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def wants_usage(self) -> bool:
        """Say whether the last chunk of the stream is to tell the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class Model(Struct, frozen=True):
    id: str
    created: int  # Seconds since 1970: when the first worker that serves it was started.
    object: str = "model"
    owned_by: str = "respool"


class ModelList(Struct, frozen=True):
    data: list[Model]
    object: str = "list"


def read_request(body: bytes) -> tuple[Asked, Raw]:
    """What a body asks for, and all of it. Raises ApiError: 400 if it is not JSON, 422 if it is wrong."""
    return decode_body(body, Asked), Raw(body)


def model_list(crew: Crew) -> ModelList:
    """The models of all workers that are alive, by name."""
    names = {model for one in crew.everybody if one.heartbeat for model in one.models}
    created: dict[str, int] = {}  # Of a newer release's worker it cannot be read.
    for member in crew.members:
        if member.heartbeat is not None:
            for model in member.models:
                started = member.started_at_ms // 1_000
                created[model] = min(started, created.get(model, started))
    return ModelList([Model(name, created.get(name, 0)) for name in sorted(names)])


def model_named(name: str, crew: Crew) -> Model:
    """A model of a worker that is alive. Raises ApiError 404, which says what there is."""
    models = {model.id: model for model in model_list(crew).data}
    if name not in models:
        served = ", ".join(models) or "none just now"
        message = f"no worker that is alive serves the model {name!r}; served are: {served}"
        raise ApiError(404, "model_not_found", message, param="model")
    return models[name]


def usage_chunk(result: bytes, kind: Kind) -> bytes | None:
    """The chunk that closes a stream with its usage; None if the result has none."""
    fields = msgspec.json.decode(result)
    if not fields.get("usage"):
        return None
    return msgspec.json.encode({**fields, "object": _CHUNK_OBJECTS[kind], "choices": []})


def whole_chunk(result: bytes, kind: Kind) -> bytes:
    """All of an answer as one chunk of its stream, but for the usage."""
    fields = msgspec.json.decode(result)
    fields.pop("usage", None)
    choices = fields.get("choices", [])
    if kind is Kind.CHAT:
        choices = [_as_delta(choice) for choice in choices]
    return msgspec.json.encode({**fields, "object": _CHUNK_OBJECTS[kind], "choices": choices})


def _as_delta(choice: dict[str, Any]) -> dict[str, Any]:
    """A choice with its message as a delta, in which tool calls have their indexes."""
    delta = dict(choice.get("message") or {})
    if isinstance(calls := delta.get("tool_calls"), list):
        delta["tool_calls"] = [{**call, "index": index} for index, call in enumerate(calls)]
    rest = {name: value for name, value in choice.items() if name != "message"}
    return {**rest, "delta": delta}
