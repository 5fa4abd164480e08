"""nginx as deploy/nginx/ has it, without a container: addresses, ports and paths alone are the test's."""

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from msgspec import Struct

from tests.certificates import Certificate
from tests.deploy.servers import DEPLOY
from tests.servers import free_port

_PATH = f"{os.environ['PATH']}:/usr/sbin"
_START_SECONDS = 20.0


class Nginx(Struct, frozen=True):
    """A running nginx in front of some gateways."""

    url: str
    port: int
    certificate: Certificate

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate.path))

    def client(self, address: str = "127.0.0.1") -> httpx.AsyncClient:
        """A client that comes from an address of its own: the limit is one for each."""
        transport = httpx.AsyncHTTPTransport(verify=self.trusting(), local_address=address)
        return httpx.AsyncClient(base_url=self.url, transport=transport, timeout=20)


def configured(
    folder: Path, port: int, gateways: Sequence[int], certificate: Certificate
) -> list[str]:
    """The command that runs the shipped file on these ports. Skips where nginx is missing."""
    binary = shutil.which("nginx", path=_PATH)
    if binary is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx)")
    text = (DEPLOY / "nginx" / "nginx.conf").read_text("utf-8")
    replaced = [
        (" 443 ", f" 127.0.0.1:{port} ", 1),
        (" /tmp/nginx", f" {folder}/nginx", 6),
        ("/etc/ssl/certs/cert.pem", str(certificate.path), 1),
        ("/etc/ssl/private/key.pem", str(certificate.key_path), 1),
        *((f"gateway-{n}:8080", f"127.0.0.1:{at}", 1) for n, at in enumerate(gateways, 1)),
    ]
    for shipped, ours, times in replaced:
        assert text.count(shipped) == times, shipped
        text = text.replace(shipped, ours)
    path = folder / "nginx.conf"
    path.write_text(text, "utf-8")
    # Its processes are root's where we are: they could not read the test's folder otherwise.
    as_us = "user root;" if os.geteuid() == 0 else ""
    return [binary, "-e", "stderr", "-c", str(path), "-g", f"daemon off; {as_us}"]


@contextmanager
def in_front_of(gateways: Sequence[int], folder: Path, certificate: Certificate) -> Iterator[Nginx]:
    """nginx, for as long as the block lasts."""
    port = free_port()
    command = configured(folder, port, gateways, certificate)
    with (folder / "nginx.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until = time.monotonic() + _START_SECONDS
        while not _listens(port):
            assert process.poll() is None, (folder / "nginx.log").read_text("utf-8")
            assert time.monotonic() < until
            time.sleep(0.01)
        yield Nginx(f"https://127.0.0.1:{port}", port, certificate)
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
