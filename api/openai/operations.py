"""Requests to OpenAI's endpoints as the OpenAPI document shows them: what is checked, and what is known.

What Respool does not check has no type here: the inference server has the last word on it.
"""

from dataclasses import dataclass
from typing import Any, Final

from api.bodies import NEEDS, json_body, needed_schema
from api.openai.options import OptionsOperation
from core.events import Kind

_SAMPLING: Final = {
    "temperature": "How much chance there is in the answer; 0 is the least.",
    "top_p": "Take only the likeliest tokens that together have this probability.",
    "max_tokens": "Tokens of the answer at most.",
    "stop": "A text, or several, that end the answer.",
    "seed": "The same number gives the same answer, as far as the inference server can.",
}
_STREAMING: Final[dict[str, Any]] = {
    "stream": {"type": ["boolean", "null"], "description": "Send the answer as it comes."},
    "stream_options": {
        "type": ["object", "null"],
        "properties": {
            "include_usage": {
                "type": ["boolean", "null"],
                "description": "Tell the usage in the last chunk.",
            }
        },
    },
}


@dataclass
class ChatOperation(OptionsOperation):
    """A chat completion."""

    def to_schema(self) -> dict[str, Any]:
        known = _SAMPLING | {
            "tools": "Functions that the model may call.",
            "response_format": "What the answer has to look like, such as a JSON schema.",
        }
        return super().to_schema() | _body(
            Kind.CHAT, "The conversation so far: objects with `role` and `content`.", known
        )


@dataclass
class CompletionsOperation(OptionsOperation):
    """A completion of a text."""

    def to_schema(self) -> dict[str, Any]:
        return super().to_schema() | _body(
            Kind.COMPLETIONS, "What the answer goes on from.", _SAMPLING
        )


@dataclass
class EmbeddingsOperation(OptionsOperation):
    """Embeddings of texts."""

    def to_schema(self) -> dict[str, Any]:
        known = {
            "dimensions": "Numbers in each embedding.",
            "encoding_format": "`float` or `base64`.",
        }
        return super().to_schema() | _body(
            Kind.EMBEDDINGS, "A text or several, or their tokens.", known
        )


def _body(kind: Kind, description: str, known: dict[str, str]) -> dict[str, Any]:
    needed = NEEDS[kind]
    schema = needed_schema(kind) | {"description": description}
    model = {
        "type": "string",
        "minLength": 1,
        "maxLength": 256,
        "pattern": r"^[^\s\x00-\x1f]+$",
        "description": "A model that some worker serves; /v1/models lists them.",
    }
    passed_on = {name: {"description": text} for name, text in known.items()}
    properties = {"model": model, needed: schema} | _STREAMING | passed_on
    return {
        "requestBody": json_body(
            {
                "type": "object",
                "required": ["model", needed],
                "properties": properties,
                "additionalProperties": True,
                "description": "OpenAI's request; all of it goes to the inference server as it is.",
            }
        )
    }
