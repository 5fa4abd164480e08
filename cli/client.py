"""A client of the HTTP API, as the command line uses it."""

import os
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import click
import httpx

from core.errors import Mendable

DEFAULT_URL: Final = "http://127.0.0.1:18080"
_TIMEOUT: Final = httpx.Timeout(10.0, read=330.0)  # Above the longest wait that the API grants.


class ClientError(Mendable):
    """The API refused, or does not answer; the message is for the user."""


def url_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option that says where the API is."""
    return click.option(
        "--url",
        envvar="RESPOOL_URL",
        default=DEFAULT_URL,
        show_default=True,
        help="Where the API is; it is sent OPENAI_API_KEY, if that is set, as the key.  "
        "[env: RESPOOL_URL]",
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def key_header() -> dict[str, str]:
    """The header with the key, which is where OpenAI's own clients look for it. Raises ClientError."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key:
        return {}
    if not re.fullmatch(r"[!-~]+", key):
        raise ClientError("OPENAI_API_KEY takes printable ASCII without spaces")
    return {"Authorization": f"Bearer {key}"}


def call(
    method: str, url: str, path: str, headers: dict[str, str] | None = None, **arguments: Any
) -> httpx.Response:
    """One request. Raises ClientError unless it succeeds."""
    try:
        response = httpx.request(
            method,
            url.rstrip("/") + path,
            timeout=_TIMEOUT,
            trust_env=False,
            headers={**key_header(), **(headers or {})},
            **arguments,
        )
    except httpx.InvalidURL as error:
        raise ClientError(f"{url!r} is no URL: {error}") from error
    except httpx.HTTPError as error:
        raise unreachable(url, error) from error
    if not response.is_success:
        raise ClientError(refusal(response))
    return response


def job_path(job_id: str) -> str:
    """The path of a job, whatever a user gave for its id. Raises ClientError for nothing at all."""
    if not job_id:
        raise ClientError("a job's id is needed, such as 06bq3w8m5t1v0zyh200")
    return f"/v1/jobs/{quote(job_id, safe='')}"


def unreachable(url: str, error: Exception) -> ClientError:
    """What to say when the API does not answer."""
    why = str(error) or type(error).__name__
    return ClientError(f"no answer from {url}: {why}; is `respool up` running? --url says where")


def refusal(response: httpx.Response) -> str:
    """What the API said, in its own words."""
    try:
        error = response.json()["error"]
        return f"{error['message']} ({response.status_code} {error['code']})"
    except (ValueError, KeyError, TypeError):
        return f"the API answered {response.status_code}"
