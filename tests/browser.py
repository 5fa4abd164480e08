"""A real browser, without a window, that reaches nothing but this machine."""

import asyncio
import shutil
from pathlib import Path

import pytest

_BROWSER = shutil.which("chromium")
_SECONDS = 60.0

needs_browser = pytest.mark.skipif(
    _BROWSER is None, reason="no chromium (Debian: apt-get install chromium)"
)


async def in_browser(url: str, folder: Path) -> tuple[str, str]:
    """The page once its scripts have run, and what the browser said of it."""
    assert _BROWSER is not None
    browser = await asyncio.create_subprocess_exec(
        _BROWSER,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--disable-background-networking",
        *(f"--user-data-dir={folder}", "--enable-logging=stderr"),
        *("--virtual-time-budget=20000", "--dump-dom", url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            shown, said = await browser.communicate()
    finally:
        if browser.returncode is None:
            browser.kill()
            await browser.wait()
    return shown.decode(), said.decode()
