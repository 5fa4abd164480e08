"""What a caller may do, and which callers a route takes."""

from collections.abc import Mapping
from typing import Any, Final

from litestar import Request
from litestar.types import ASGIApp, Receive, Send
from litestar.types import Scope as Connection

from api.errors import ApiError
from core.access import Caller, Scope

_OPT: Final = "scopes"
_UNDECLARED: Final = frozenset({Scope.OPERATE})  # A route that forgot to say is not for everybody.


def allows(*scopes: Scope) -> Mapping[str, frozenset[Scope]]:
    """What a route declares as its `opt`: callers with any of these scopes; with none, every request."""
    return {_OPT: frozenset(scopes)}


ANY_KEY: Final = allows(*Scope)
NO_KEY: Final = allows()


def caller_of(request: Request[Any, Any, Any]) -> Caller:
    """The caller whose key the request came with, as `api.guard` found it."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


def tenant_of(caller: Caller, asked: str | None) -> str | None:
    """Whose jobs a caller means: its own tenant's unless it sees all, and says which, or none.

    Raises ApiError 403 for another one, whether or not there is such a tenant.
    """
    if caller.sees is None:
        return asked
    if asked not in {None, caller.sees}:
        message = f"tenant: this key sees the jobs of {caller.sees!r} alone; leave `tenant` out"
        raise ApiError(403, "other_tenant", message, param="tenant")
    return caller.sees


def require_all_tenants(caller: Caller) -> None:
    """Raises ApiError 403 for a caller that sees one tenant alone: what it asks for is everybody's."""
    if caller.sees is not None:
        message = "this is counted over all tenants, and takes a key that sees them all"
        raise ApiError(403, "other_tenant", message)


class Permit:
    """Middleware that lets through whoever has a scope that the route allows. ApiError 403."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Check what `api.guard` found out against what the route declares."""
        allowed: frozenset[Scope] = scope["route_handler"].opt.get(_OPT, _UNDECLARED)
        if allowed and allowed.isdisjoint(scope["state"]["caller"].scopes):
            raise _insufficient(allowed)
        await self._app(scope, receive, send)


def _insufficient(allowed: frozenset[Scope]) -> ApiError:
    names = " or ".join(scope for scope in Scope if scope in allowed)
    message = f"this key lacks the scope that this takes: {names}"
    return ApiError(403, "insufficient_scope", message)
