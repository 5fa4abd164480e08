"""What a request asked for in few words: a known method, and the template of its route, never its path."""

import re
from functools import lru_cache
from typing import Final

from litestar.types import Scope

METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
OTHER_METHOD: Final = "_OTHER"  # OpenTelemetry's word for what is none of these.
_PARAMETER_TYPE: Final = re.compile(r":\w+}")


def method_of(scope: Scope) -> str:
    """The request's method, if it is one that there is."""
    method = scope.get("method")
    return str(method) if method in METHODS else OTHER_METHOD


def route_of(scope: Scope) -> str | None:
    """The route that the router found, such as `/v1/jobs/{job_id}`; None if none, or not yet."""
    template = scope.get("path_template")
    return _without_types(str(template)) if template else None


@lru_cache(maxsize=1_024)
def _without_types(template: str) -> str:
    return _PARAMETER_TYPE.sub("}", template)
