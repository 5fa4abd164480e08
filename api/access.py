"""Who sent a request."""

from typing import Any

from litestar import Request

from core.access import ANYBODY, Caller


def caller_of(request: Request[Any, Any, Any]) -> Caller:
    """The caller whose key the request came with."""
    caller: Caller = request.scope["state"].get("caller", ANYBODY)
    return caller
