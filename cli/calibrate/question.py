"""What the inference server is asked while it is measured."""

from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from consumers.upstream.base import Call, Upstream, UpstreamError
from core.errors import Mendable
from core.events import Kind

TOKENS: Final = 128
_TASK: Final = (
    "Request {number}. Tell a long story about a lighthouse, in as much detail as you can."
)
_KINDS: Final = {"messages": Kind.CHAT, "prompt": Kind.COMPLETIONS}


class CalibrationError(Mendable):
    """Nothing can be measured; the message says why and what to do."""


class Question(Struct, frozen=True):
    """A request, to be sent many times."""

    model: str
    kind: Kind = Kind.CHAT
    request: dict[str, Any] | None = None  # None: one of ours.
    tokens: int = TOKENS

    def call(self, number: int) -> Call:
        """The request for the `number`-th time. Ours begins differently each time, or its prefix would be cached."""
        if self.request is not None:
            return Call(self.kind, self.model, Raw(msgspec.json.encode(self.request)))
        messages = [{"role": "user", "content": _TASK.format(number=number)}]
        ours = {"messages": messages, "max_tokens": self.tokens, "temperature": 0}
        return Call(self.kind, self.model, Raw(msgspec.json.encode(ours)))


def question_of(model: str, path: Path | None, tokens: int) -> Question:
    """The request in a file, as OpenAI's endpoints take it; ours without one. Raises CalibrationError."""
    if path is None:
        return Question(model, tokens=tokens)
    try:
        request = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path} is no JSON: {error}") from error
    fields = request if isinstance(request, dict) else {}
    kinds = [kind for name, kind in _KINDS.items() if name in fields]
    if not kinds:
        raise CalibrationError(f"{path} takes a request of OpenAI's with `messages` or `prompt`")
    return Question(model, kinds[0], fields)


async def model_of(upstream: Upstream, asked: str | None) -> str:
    """The model to measure: the one that was asked for, or the only one. Raises CalibrationError."""
    try:
        served = sorted(await upstream.models())
    except UpstreamError as error:
        raise CalibrationError(f"UPSTREAM_URL: {error}") from error
    names = ", ".join(served) or "none"
    if asked is None and len(served) == 1:
        return served[0]
    if asked is None:
        raise CalibrationError(
            f"name the model to measure with --model; {upstream.address} has {names}"
        )
    if asked not in served:
        raise CalibrationError(f"{upstream.address} has no model {asked!r}; it has {names}")
    return asked
