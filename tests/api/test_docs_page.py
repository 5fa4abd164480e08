"""`/docs` shows all operations in a real browser that reaches nothing but this machine."""

import re
from pathlib import Path

from tests.api.conftest import Api
from tests.api.errors import error_of
from tests.browser import in_browser, needs_browser


async def test_the_page_and_its_files_are_ours(api: Api) -> None:
    page = await api.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    for path in [one for one in files if not one.startswith("data:")]:
        assert path.startswith("/docs/")
        answer = await api.http.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(("text/javascript", "text/css"))
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_browser_keeps_what_does_not_change(api: Api) -> None:
    for path, kept in [
        ("/docs/swagger-ui-bundle.js", "private, max-age=86400"),
        ("/docs/swagger-ui.css", "private, max-age=86400"),
        ("/docs/page.js", "no-cache"),
        ("/docs", "no-cache"),
        ("/openapi.json", "no-cache"),
    ]:
        assert (await api.http.get(path)).headers["cache-control"] == kept


async def test_the_page_may_load_and_ask_nothing_else(api: Api) -> None:
    policy = (await api.http.get("/docs")).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "http" not in policy


async def test_there_is_nothing_else_below_it(api: Api) -> None:
    for path in ["/docs/nothing", "/docs/swagger-ui.js", "/docs/a/b"]:
        error_of(await api.http.get(path), 404, "not_found")


@needs_browser
async def test_a_browser_without_a_network_shows_every_operation(api: Api, tmp_path: Path) -> None:
    document = (await api.http.get("/openapi.json")).json()
    shown, said = await in_browser(f"{api.http.base_url}/docs", tmp_path)
    for path, operations in document["paths"].items():
        assert f'data-path="{path}"' in shown, path
        for operation in operations.values():
            assert operation["summary"][:20] in shown
    assert "Content Security Policy" not in said
    assert "CONSOLE" not in said, said
