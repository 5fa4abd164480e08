"""Load on a gateway: requests as fast as they are answered, and the first tokens of streams."""

import shutil
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec
from msgspec import Struct

_SCRIPT = Path(__file__).parent / "post.lua"
_TIMEOUT_SECONDS = 60
_WARM_UP_REQUESTS = 30
_RECEIVE_BYTES = 65_536


class Loaded(Struct, frozen=True):
    """What `load` saw: a request is `failed` if its answer was no 2xx, `broken` if it got none."""

    requests: int
    seconds: float
    median_ms: float
    p99_ms: float
    failed: int
    broken: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def load(url: str, body: str, connections: int, seconds: int) -> Loaded:
    """Keep so many connections busy for so long. Raises RuntimeError if any request went wrong."""
    loaded = _wrk(url, body, connections, seconds)
    if loaded.failed or loaded.broken or not loaded.requests:
        raise RuntimeError(f"{url}: not all requests were answered well: {loaded}")
    return loaded


def _wrk(url: str, body: str, connections: int, seconds: int) -> Loaded:
    """wrk's load is of one thread, which `direct` shows the limit of."""
    flags = f"-c{connections} -t1 -d{seconds}s --timeout {_TIMEOUT_SECONDS}s -s {_SCRIPT}".split()
    done = subprocess.run(
        ["wrk", *flags, url, "--", body], capture_output=True, text=True, check=True
    )
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Loaded)


def warm_up(url: str, body: str) -> None:
    """Some requests one by one, as the first ones may take their time. Raises HTTPError."""
    with httpx.Client(timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
        for _ in range(_WARM_UP_REQUESTS):
            client.post(url, content=body).raise_for_status()


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


def first_token_ms(url: str, body: str, streams: int) -> list[float]:
    """From each request to the first event of its stream, one stream at a time on one connection."""
    where = urlsplit(url)
    request = (
        f"POST {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return [_first_token_ms(connection, request) for _ in range(streams)]


def _first_token_ms(connection: socket.socket, request: bytes) -> float:
    started = time.perf_counter()
    connection.sendall(request)
    received = b""
    while b"data: " not in received:
        received += _some(connection, received)
    elapsed_ms = (time.perf_counter() - started) * 1_000
    while not received.endswith(b"\r\n0\r\n\r\n"):
        received += _some(connection, received)
    if b"data: [DONE]" not in received:
        raise RuntimeError(f"the stream did not end well: {received[-500:]!r}")
    return elapsed_ms


def _some(connection: socket.socket, so_far: bytes) -> bytes:
    data = connection.recv(_RECEIVE_BYTES)
    if not data:
        raise RuntimeError(f"the connection was closed: {so_far[-500:]!r}")
    return data
