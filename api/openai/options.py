"""What a request to OpenAI's endpoints asks of Respool: headers, since its body belongs to OpenAI."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from litestar.datastructures import Headers
from litestar.openapi.spec import Operation
from msgspec import Meta, Struct

from api.bodies import inlined
from api.errors import ApiError
from api.schemas import DEFAULT_QUEUE, AttemptSeconds, QueueName, Seconds
from core.events import Priority

_PREFIX: Final = "x-respool-"
_KEY: Final = "idempotency-key"


class OnTimeout(StrEnum):
    """What becomes of a job whose caller has waited for SYNC_TIMEOUT_SECONDS."""

    CONTINUE = "continue"
    CANCEL = "cancel"


def _header(field: str) -> str:
    return _KEY if field == "idempotency_key" else _PREFIX + field.replace("_", "-")


class Options(Struct, frozen=True, kw_only=True, rename=_header):
    """The headers; each description says what its header takes."""

    idempotency_key: Annotated[
        Annotated[str, Meta(min_length=1, max_length=255)] | None,
        Meta(
            description="1 to 255 characters that name this request: sent again, it is the same job"
        ),
    ] = None
    queue: Annotated[
        QueueName,
        Meta(description="a queue's name: 1 to 64 letters, digits, dots, underscores and hyphens"),
    ] = DEFAULT_QUEUE
    priority: Annotated[Priority, Meta(description="high, normal or low")] = Priority.NORMAL
    on_timeout: Annotated[
        OnTimeout,
        Meta(description="continue or cancel: what becomes of a job that is not done in time"),
    ] = OnTimeout.CONTINUE
    deadline_seconds: Annotated[
        Seconds | None,
        Meta(description="a number of seconds, up to a year, within which the job has to start"),
    ] = None
    timeout_seconds: Annotated[
        AttemptSeconds | None,
        Meta(description="a number of seconds, up to a day, that an attempt may take"),
    ] = None


_FIELDS: Final = {field.encode_name: field for field in msgspec.structs.fields(Options)}
_SCHEMAS: Final[dict[str, dict[str, Any]]] = inlined(Options)["properties"]
_TAKES: Final[dict[str, str]] = {
    name: field.type.__metadata__[-1].description for name, field in _FIELDS.items()
}
_DEFAULT: Final = Options()


def options_in(headers: Headers) -> Options:
    """What the headers say. Raises ApiError 422, which names the header that is wrong."""
    given = {name: headers[name] for name in headers if name.startswith(_PREFIX) or name == _KEY}
    return _read(given) if given else _DEFAULT


def _read(given: dict[str, str]) -> Options:
    values: dict[str, Any] = {}
    for name, text in given.items():
        field = _FIELDS.get(name)
        if field is None:
            known = ", ".join(known for known in _FIELDS if known.startswith(_PREFIX))
            raise _wrong(name, f"there is no such header; there are {known}")
        try:
            values[field.name] = msgspec.convert(text, field.type, strict=False)
        except msgspec.ValidationError as error:
            raise _wrong(name, f"takes {_TAKES[name]}") from error
    return Options(**values)


def _wrong(name: str, message: str) -> ApiError:
    return ApiError(422, "invalid_value", f"{name}: {message}", param=name)


@dataclass
class OptionsOperation(Operation):
    """A request to an OpenAI endpoint with its headers."""

    def to_schema(self) -> dict[str, Any]:
        operation = super().to_schema()
        ours = [
            {
                "name": name,
                "in": "header",
                "required": False,
                "description": _TAKES[name],
                "schema": schema,
            }
            for name, schema in _SCHEMAS.items()
        ]
        return operation | {"parameters": [*operation.get("parameters", ()), *ours]}
