"""`/docs`: Swagger UI, whose files are served from its package, so that nothing comes from elsewhere."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec
from litestar import Request, Response, Router, get
from litestar.openapi.plugins import OpenAPIRenderPlugin

from api.access import ANY_KEY
from api.docs.document import document
from api.errors import ApiError, respond

_PAGE: Final = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Respool</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/page.js"></script>
</html>
"""
_START: Final = b"""SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null,
  defaultModelsExpandDepth: 0, docExpansion: "list",
});
"""
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}
_KEPT: Final = _HEADERS | {"Cache-Control": "private, max-age=86400"}
_ASKED_AGAIN: Final = _HEADERS | {"Cache-Control": "no-cache"}


class Page(OpenAPIRenderPlugin):
    """The page itself, as a plugin: Litestar would add one of its own otherwise."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        """HTML that asks for the rest."""
        return _PAGE


@get("/swagger-ui-bundle.js")
async def script() -> Response[bytes]:
    """Swagger UI."""
    return Response(_packaged("swagger-ui-bundle.js"), media_type="text/javascript", headers=_KEPT)


@get("/swagger-ui.css")
async def style() -> Response[bytes]:
    """How it looks."""
    return Response(_packaged("swagger-ui.css"), media_type="text/css", headers=_KEPT)


@get("/page.js")
async def start() -> Response[bytes]:
    """What starts it; a file of its own, as the page may run no script that stands in it."""
    return Response(_START, media_type="text/javascript", headers=_ASKED_AGAIN)


@get("/openapi.json", include_in_schema=False, opt=ANY_KEY)
async def openapi_json(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The description of this API, where tools look for it; `/docs` shows it to people."""
    state = request.app.state
    if "document" not in state:
        built = document(request.app.openapi_schema.to_schema())
        state["document"] = msgspec.json.encode(built)
    return Response(state["document"], media_type="application/json", headers=_ASKED_AGAIN)


async def _as_ours(response: Response[Any]) -> Response[Any]:
    """Litestar adds a page that says 404 in HTML."""
    if response.status_code == 404:
        return respond(ApiError(404, "not_found", "there is no such page; /docs is the only one"))
    for name, value in _ASKED_AGAIN.items():
        response.headers.setdefault(name, value)
    return response


def docs_router() -> Router:
    """The page and its files."""
    return Router(
        "/docs",
        route_handlers=[script, style, start],
        include_in_schema=False,
        opt=ANY_KEY,
        after_request=_as_ours,
    )


def _packaged(name: str) -> bytes:
    # Found without an import, which would bring a template engine that nothing here needs.
    package = find_spec("swagger_ui")
    assert package is not None
    assert package.submodule_search_locations is not None
    return (Path(package.submodule_search_locations[0]) / "static" / name).read_bytes()
