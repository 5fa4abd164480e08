"""Request bodies: decoded by msgspec itself, as a field kept byte for byte (`Raw`) needs the bytes.

Litestar decodes a body to builtins and converts those, which loses them. So handlers take the raw
body, and the OpenAPI document is told of its shape here.
"""

import re
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from typing import Any, Final, TypeVar, get_type_hints

import msgspec
from litestar.openapi.spec import Operation
from msgspec import Struct

from api.errors import ApiError
from api.schemas import SubmitJob
from core.events import Kind

Body = TypeVar("Body", bound=Struct)

DEPTH_MAX: Final = (
    256  # Levels of a request; Python's own limit is about 1,000, less what is called.
)
TOO_DEEP: Final = f"the body is nested too deeply; takes {DEPTH_MAX} levels"

_NO_STRUCTURE: Final = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # 1 and -1, as signed bytes.

# What every request of a kind has.
NEEDS: Final = {Kind.CHAT: "messages", Kind.COMPLETIONS: "prompt", Kind.EMBEDDINGS: "input"}

# What a name takes, in words instead of its regular expression.
_NAMES: Final = {
    "model": "takes 1 to 256 characters without spaces",
    "queue": "takes 1 to 64 letters, digits, dots, underscores and hyphens",
}


def decode_body(body: bytes, kind: type[Body]) -> Body:
    """A request's body. Raises ApiError: 400 if it is not JSON, 422 if it is not a `kind`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise invalid(str(error), kind) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = (
            f"the body is not valid JSON: {error}" if body else "the body is empty; it takes JSON"
        )
        raise ApiError(400, "invalid_json", message) from error
    except RecursionError as error:
        raise ApiError(400, "invalid_json", TOO_DEEP) from error


def check_depth(text: bytes) -> None:
    """Raises ApiError 400 if valid JSON is nested deeper than DEPTH_MAX levels.

    It could be read here all the same, and break whoever decodes it under a deeper stack.
    """
    if text.count(b"[") + text.count(b"{") > DEPTH_MAX and _depth(text) > DEPTH_MAX:
        raise ApiError(400, "invalid_json", TOO_DEEP)


def _depth(text: bytes) -> int:
    """How many brackets of valid JSON are open at once; without a loop of our own, as it may be long."""
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_STRUCTURE)
    brackets = b"".join(bare.split(b'"')[::2])  # What stands between quotes is text.
    return max(accumulate(memoryview(brackets.translate(_STEPS)).cast("b")), default=0)


def invalid(explanation: str, kind: type[Struct]) -> ApiError:
    """A 422 from msgspec's explanation, which ends with where it is; the field is named first."""
    what, _, where = explanation.partition(" - at `")
    path = re.search(r"\$\.([^`]+)`$", where)  # Also in: at `key` in `$.metadata`.
    param = path[1] if path else None
    if unknown := re.search(r"unknown field `([^`]+)`", what):
        param = unknown[1]
        what = f"unknown field; takes {', '.join(kind.__struct_fields__)}"
    elif missing := re.search(r"required field `([^`]+)`", what):
        param, what = missing[1], "is required"
    elif "matching regex" in what and param in _NAMES:
        what = _NAMES[param]
    elif "enum value" in what and param is not None:
        choices = get_type_hints(kind).get(param)
        what += f"; takes {', '.join(choices)}" if isinstance(choices, type(Enum)) else ""
    message = f"{param}: {what}" if param else what
    return ApiError(422, "invalid_value", message, param=param)


@dataclass
class SubmitOperation(Operation):
    """The submission as the OpenAPI document shows it."""

    def to_schema(self) -> dict[str, Any]:
        schema = inlined(SubmitJob)
        # What the request has to hold depends on the kind.
        kinds = [_kind_and_request(kind) for kind in Kind]
        return super().to_schema() | {"requestBody": json_body(schema | {"anyOf": kinds})}


def _kind_and_request(kind: Kind) -> dict[str, Any]:
    needed = NEEDS[kind]
    request = {"required": [needed], "properties": {needed: needed_schema(kind)}}
    both = {"properties": {"kind": {"const": kind.value}, "request": request}}
    return both if kind is Kind.CHAT else both | {"required": ["kind"]}


def needed_schema(kind: Kind) -> dict[str, Any]:
    """What every request of a kind has, as a JSON schema."""
    items = {"type": "array", "minItems": 1}
    return items if kind is Kind.CHAT else {"oneOf": [{"type": "string", "minLength": 1}, items]}


def body_of(kind: type, *, required: bool = True) -> dict[str, Any]:
    """A request's body that is a `kind`, as the OpenAPI document shows it."""
    return json_body(inlined(kind), required=required)


def json_body(schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """A request's body that is described by hand."""
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def inlined(kind: type) -> dict[str, Any]:
    """A JSON schema in one piece, since the names of components are Litestar's to give."""
    [root], components = msgspec.json.schema_components([kind], ref_template="{name}")

    def resolve(node: Any) -> Any:
        match node:
            case {"$ref": str(name)}:
                return resolve(components[name])
            case dict():
                return {key: resolve(value) for key, value in node.items()}
            case list():
                return [resolve(value) for value in node]
            case _:
                return node

    schema: dict[str, Any] = resolve(root)
    return schema
