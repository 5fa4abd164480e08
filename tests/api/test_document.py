"""The OpenAPI document says of every operation what it needs and gives, with examples that are true."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from tests.api.conftest import Api

Schema = dict[str, Any]
OPEN = {"/healthz", "/readyz", "/metrics"}


@pytest.fixture
async def document(api: Api) -> Schema:
    document: Schema = (await api.http.get("/openapi.json")).json()
    return document


def operations(document: Schema) -> Iterator[tuple[str, Schema]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def of(document: Schema, name: str) -> Schema:
    return dict(operations(document))[name]


def validator(document: Schema, schema: Schema) -> Any:
    whole = schema | {"components": document["components"]}
    return jsonschema_rs.Draft202012Validator(whole)


def test_every_operation_is_summed_up_and_explained(document: Schema) -> None:
    for name, operation in operations(document):
        assert 5 < len(operation["summary"]) < 100, name
        assert operation["description"], name
        assert operation["tags"], name
        for parameter in operation.get("parameters", []):
            assert parameter["schema"], name


def test_every_operation_has_examples_that_its_schemas_take(document: Schema) -> None:
    """One that is new needs an entry in `api/docs/examples.py`."""
    for name, operation in operations(document):
        bodies = operation.get("requestBody", {}).get("content", {})
        answers = [
            content
            for status, response in operation["responses"].items()
            if status.startswith("2")
            for content in [response.get("content", {})]
        ]
        assert answers, name
        for content in [bodies, *answers]:
            assert content or content is bodies, name
            for media in content.values():
                assert media.get("example") is not None, f"{name} has no example"
                validator(document, media["schema"]).validate(media["example"])


def test_every_operation_has_the_errors_that_all_may_have(document: Schema) -> None:
    for name, operation in operations(document):
        if name.partition(" ")[2] in OPEN:
            continue
        expected = {"401", "403", "429", "503"}
        if "requestBody" in operation:
            expected |= {"400", "408", "413", "422"}
        if operation.get("parameters"):
            expected.add("422")
        if "{job_id}" in name:
            expected.add("404")
        assert expected <= set(operation["responses"]), name
        for status in expected:
            ref = {"$ref": f"#/components/responses/Error{status}"}
            assert operation["responses"][status] == ref, name


def test_all_errors_are_one_shape_and_have_an_example_of_it(document: Schema) -> None:
    for response in document["components"]["responses"].values():
        media = response["content"]["application/json"]
        assert media["schema"] == {"$ref": "#/components/schemas/ErrorView"}
        validator(document, media["schema"]).validate(media["example"])
        assert "x-request-id" in response["headers"]
    assert "Retry-After" in document["components"]["responses"]["Error429"]["headers"]


def test_every_answer_names_its_request(document: Schema) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if status.startswith("2"):
                assert "x-request-id" in response["headers"], name


def test_what_a_state_forbids_is_said(document: Schema) -> None:
    for name in ["POST /v1/jobs/{job_id}/cancel", "GET /v1/jobs/{job_id}/result"]:
        assert "409" in of(document, name)["responses"]
    for way in ["chat/completions", "completions", "embeddings"]:
        assert {"404", "502", "504"} <= set(of(document, f"POST /v1/{way}")["responses"])


def test_streams_and_headers_are_described(document: Schema) -> None:
    for name in [
        "GET /v1/jobs/{job_id}/output",
        "GET /v1/jobs/{job_id}/events",
        "POST /v1/chat/completions",
    ]:
        assert "text/event-stream" in of(document, name)["responses"]["200"]["content"]
    submit = of(document, "POST /v1/jobs")
    described = {one["name"]: one["description"] for one in submit["parameters"]}
    assert set(described) == {"Idempotency-Key", "Prefer"}
    assert "Location" in submit["responses"]["202"]["headers"]
    assert "x-job-id" in of(document, "POST /v1/embeddings")["responses"]["200"]["headers"]


async def test_the_document_is_the_same_each_time(api: Api) -> None:
    first, second = [await api.http.get("/openapi.json") for _ in range(2)]
    assert first.content == second.content
    assert first.headers["content-type"] == "application/json"
