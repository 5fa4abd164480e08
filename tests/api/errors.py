"""What every error of the API has in common."""

from typing import Any

import httpx

_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def error_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error that an answer is, which has OpenAI's shape and shows nothing of our inside."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    body = answer.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) - {"job_id"} == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["message"]
    other = "server_error" if status >= 500 else "invalid_request_error"
    kinds = {_KINDS.get(status, other)}
    if code == "rate_limit_exceeded":  # OpenAI names what is limited.
        kinds |= {"requests", "tokens"}
    assert error["type"] in kinds
    return error
