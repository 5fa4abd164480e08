"""From an address to the upstream that speaks its dialect."""

from typing import Final

from consumers.upstream.base import Limits, Upstream, UpstreamError
from consumers.upstream.echo import EchoUpstream
from consumers.upstream.http import HttpServer
from consumers.upstream.ollama import OllamaUpstream
from consumers.upstream.openai import OpenAIUpstream
from core.events import ErrorKind
from core.settings import UpstreamKind

# A server that fails in one of these ways has not said what it is.
_NO_ANSWER: Final = frozenset(
    {ErrorKind.CONNECT, ErrorKind.TIMEOUT, ErrorKind.LOST_STREAM, ErrorKind.OVERLOAD}
)


async def connect(
    url: str, kind: UpstreamKind | None, api_key: str | None, limits: Limits
) -> Upstream:
    """The upstream at `url`; without a `kind` the server is asked what it is.

    Raises UpstreamError if it has to be asked and does not answer.
    """
    if kind is UpstreamKind.ECHO or (kind is None and url.startswith("echo:")):
        return EchoUpstream(url)
    if kind is None:
        kind = await _ask_kind(url, api_key, limits)
    if kind is UpstreamKind.OLLAMA:
        return OllamaUpstream(url, api_key, limits)
    return OpenAIUpstream(url, api_key, limits)


def provider_of(upstream: Upstream) -> str:
    """Whose dialect an upstream speaks."""
    match upstream:
        case OllamaUpstream():
            return UpstreamKind.OLLAMA
        case EchoUpstream():
            return UpstreamKind.ECHO
        case _:
            return UpstreamKind.OPENAI


async def _ask_kind(url: str, api_key: str | None, limits: Limits) -> UpstreamKind:
    """Only Ollama has `/api/version`. A URL that ends in /v1 asks for OpenAI's dialect."""
    if url.rstrip("/").endswith("/v1"):
        return UpstreamKind.OPENAI
    server = HttpServer(url, api_key, limits)
    try:
        answer = await server.get("api/version")
        is_ollama = isinstance(answer, dict) and "version" in answer
    except UpstreamError as error:
        if error.error.kind in _NO_ANSWER:
            raise
        is_ollama = False
    finally:
        await server.aclose()
    return UpstreamKind.OLLAMA if is_ollama else UpstreamKind.OPENAI
