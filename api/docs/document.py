"""The OpenAPI document: what Litestar knows of the routes, and what holds for all of them.

A new route gets the common errors, headers and its summary by itself. What only it knows it says where
it is: a docstring, `responses=also(409)`; examples stand in `api.docs.examples`.
"""

import re
from typing import Any, Final

import msgspec
from litestar.openapi import ResponseSpec

from api.docs.examples import ERRORS, EXAMPLES, Example
from api.errors import ErrorView

Schema = dict[str, Any]

_DESCRIPTION: Final = """\
Jobs for self-hosted LLM inference, and OpenAI's endpoints on top of them.

Every error is OpenAI's object, `{"error": {"message", "type", "param", "code"}}`, with `job_id` where
there is one, and every answer has an `x-request-id`: the one that the request sent, if that is 1 to 128
printable characters, or a new one. Besides what the operations list, any request may get 404 for a path
and 405 for a method that there is not, 408 if its headers do not come in time, 414 for a long URL, 431
for large headers, and 500 for what should not have happened. `HEAD` works wherever `GET` does.
"""

_TAGS: Final = {
    "openai": "What OpenAI's clients call; each request is a job.",
    "jobs": "Submit, look, wait, watch, cancel, requeue.",
    "events": "Everything that happens.",
    "lists": "What the views show; they follow the log closely.",
    "queues": "Pause and resume.",
    "replay": "What was, as the log tells it.",
    "health": "For whoever runs this.",
}

# What an error means, wherever it comes.
_MEANING: Final = {
    400: "The body is not valid JSON, or nested too deeply; or the inference server refused it.",
    401: "A key is needed, and none was sent, or one that is not known.",
    403: "The key may not do this.",
    404: "There is no such job, or no worker that serves the model.",
    408: "The body did not come within BODY_TIMEOUT_SECONDS.",
    409: "The job's state does not allow it.",
    410: "The job's request and result were forgotten.",
    413: "The body is larger than MAX_BODY_BYTES.",
    422: "A value is wrong; `param` names it.",
    429: "The queue is full, or the key has used up its rate. Retry-After says when to come again.",
    502: "The inference server failed.",
    503: "The store or the inference server cannot do it just now. Retry-After says when to come again.",
    504: "It took longer than SYNC_TIMEOUT_SECONDS; the job, which `job_id` names, goes on.",
}
_OF_EVERYTHING: Final = frozenset({401, 403, 429, 503})
_OF_BODIES: Final = frozenset({400, 408, 413, 422})
_OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_RETRY: Final = frozenset({429, 503})


def also(*statuses: int) -> dict[int, ResponseSpec]:
    """The errors of a route besides those that all of its kind have, for its `responses`."""
    return {
        status: ResponseSpec(ErrorView, description=_MEANING[status], generate_examples=False)
        for status in statuses
    }


def document(schema: Schema) -> Schema:
    """The whole document from Litestar's, which is left as it is."""
    schema = msgspec.json.decode(msgspec.json.encode(schema))
    schema["info"]["description"] = _DESCRIPTION
    schema["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items()]
    components = schema["components"]
    [error], parts = msgspec.json.schema_components(
        [ErrorView], ref_template="#/components/schemas/{name}"
    )
    components["schemas"] |= parts
    components["responses"] = {_name(status): _error(status, error) for status in _MEANING}
    components["headers"] = {
        "RequestId": _header("The id of this request."),
        "RetryAfter": _SECONDS,
    }
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            _complete(operation, path, EXAMPLES.get(f"{method.upper()} {path}", Example()))
    return schema


_SECONDS: Final = {
    "description": "Seconds after which it is worth trying again.",
    "schema": {"type": "string", "pattern": "^[0-9]+$"},
}


# OpenAPI 3.1 has no words for a stream's events.
_EVENTS: Final = {"description": "Server-sent events, as the example shows them."}


def _complete(operation: Schema, path: str, example: Example) -> None:
    """Say of an operation what all of its kind have."""
    text: str = operation.get("description") or operation["summary"]
    operation["description"] = text
    operation["summary"] = re.split(r"\. |;|\n", text)[0].rstrip(".")
    for parameter in operation.get("parameters", []):
        parameter["schema"] = _never_null(parameter["schema"])
    responses = operation["responses"]
    if "is not valid" not in str(responses.get("400")):
        responses.pop("400", None)  # Litestar's own, whose shape is none of ours.
    for status in _statuses(operation, path):
        responses[str(status)] = {"$ref": f"#/components/responses/{_name(status)}"}
    for status, response in responses.items():
        if status.startswith("2"):
            response.setdefault("headers", {}).update(
                {"x-request-id": {"$ref": "#/components/headers/RequestId"}, **example.headers}
            )
            _show(response, example)
    if path not in _OPEN:
        operation["security"] = [{}, {"key": []}]  # Only where OPENAI_API_KEY_REQUIRED says so.
    if example.body is not None:
        [media] = operation["requestBody"]["content"].values()
        media["example"] = example.body


def _statuses(operation: Schema, path: str) -> set[int]:
    declared = {int(status) for status in operation["responses"]} & set(_MEANING)
    if path in _OPEN:
        return set()
    ours = set(_OF_EVERYTHING | declared)
    if "requestBody" in operation:
        ours |= _OF_BODIES
    if operation.get("parameters"):
        ours.add(422)
    if "{job_id}" in path:
        ours.add(404)
    return ours


def _show(response: Schema, example: Example) -> None:
    content = response.setdefault("content", {})
    if example.schema is not None:
        content["application/json"] = {"schema": example.schema}
    if example.stream is not None:
        if example.answer is None:
            content.clear()
        content["text/event-stream"] = {"schema": _EVENTS, "example": example.stream}
    if example.answer is not None:
        media = content.get("application/json") or next(iter(content.values()))
        media["example"] = example.answer


def _never_null(schema: Schema) -> Schema:
    """A parameter's schema: it may be left out, but nobody can send null in a URL or a header."""
    match schema:
        case {"oneOf": [dict(first), {"type": "null"}], **rest}:
            return first | rest
        case _:
            return schema


def _name(status: int) -> str:
    return f"Error{status}"


def _error(status: int, schema: Schema) -> Schema:
    headers = {"x-request-id": {"$ref": "#/components/headers/RequestId"}}
    if status in _RETRY:
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    content = {"application/json": {"schema": schema, "example": ERRORS[status]}}
    return {"description": _MEANING[status], "headers": headers, "content": content}


def _header(description: str) -> Schema:
    return {"description": description, "schema": {"type": "string"}}
