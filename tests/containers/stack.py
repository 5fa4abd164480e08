"""The deployment of compose.yaml, as real containers beside whatever else runs on this machine."""

import json
import secrets
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from tests.certificates import Certificate, self_signed
from tests.deploy.compose import ROOT, chosen
from tests.servers import free_port

API_KEY: Final = secrets.token_urlsafe(32)
_PROJECT: Final = "respool-test"
_NETWORK: Final = "10.180.81"
_STEP_SECONDS: Final = 900  # A build from nothing takes its time.
_SOON_SECONDS: Final = 60.0

# An inference server that is in the worker, ports that nobody has, and checks that are made more often.
_OVERLAY: Final = """
services:
  ollama: {{ profiles: !override [none] }}
  models: {{ profiles: !override [none] }}
  gateway: {{ ports: !override ["127.0.0.1:{gateway}:8080"] }}
  nginx: {{ ports: !override ["127.0.0.1:{nginx}:443"] }}
  prometheus: {{ ports: !override ["127.0.0.1:{prometheus}:9090"] }}
  alertmanager: {{ ports: !reset [] }}
  projector: {{ healthcheck: {{ interval: 2s }} }}
"""
_ENVIRONMENT: Final = """
RESPOOL_IMAGE=respool:test
API_KEY={key}
REDIS_PASSWORD=of-the-program
REDIS_ADMIN_PASSWORD=of-the-operator
UPSTREAM_URL=echo:?tokens_per_second=10
LEASE_SECONDS=2
FRONTEND_NET={network}
TLS_FOLDER={tls}
FLUENTD_ADDRESS=127.0.0.1:{fluentd}
"""
# Volumes take their owner from a folder of the image. Where an image has none, they would be root's.
_OWNERS: Final = {
    "redis": ("999:1000", "/data"),
    "prometheus": ("65534:65534", "/prometheus"),
    "alertmanager": ("65534:65534", "/alertmanager"),
}


class Stack:
    """`docker compose`, for one deployment of a test's own."""

    def __init__(self, folder: Path, size: str) -> None:
        self.port, self.gateway_port = free_port(), free_port()
        self.prometheus_port, self.fluentd_port = free_port(), free_port()
        self.certificate = _readable_by_nginx(folder / "tls")
        self._overlays: list[str | Path] = [size, folder / "compose.test.yaml"]
        self._env_file = folder / "env"
        overlay = _OVERLAY.format(
            nginx=self.port, gateway=self.gateway_port, prometheus=self.prometheus_port
        )
        (folder / "compose.test.yaml").write_text(overlay, "utf-8")
        written = _ENVIRONMENT.format(
            key=API_KEY,
            network=_NETWORK,
            tls=self.certificate.path.parent,
            fluentd=self.fluentd_port,
        )
        self._env_file.write_text(written, "utf-8")

    def __call__(self, *arguments: str, overlays: Sequence[str] = (), check: bool = True) -> str:
        """What `docker compose` prints. AssertionError, with what it says, if it fails."""
        return _run(["docker", "compose", *arguments], self._environment(overlays), check=check)

    def shell(self, script: str, **settings: str) -> str:
        """What a block of the documentation prints, for somebody who has this deployment."""
        return _run(["sh", "-ec", script], self._environment() | settings)

    def _environment(self, overlays: Sequence[str] = ()) -> dict[str, str]:
        files = [*self._overlays, *overlays]
        ours = chosen(files, ["worker", "nginx"], self._env_file)
        return ours | {"COMPOSE_PROJECT_NAME": _PROJECT}

    @contextmanager
    def up(self) -> Iterator["Stack"]:
        """Everything built and healthy; nothing of it is left when the block ends."""
        try:
            self("down", "--volumes", "--remove-orphans")  # Of a run that was killed.
            self("build", "--quiet", "gateway")
            self.own_volumes()
            self("up", "--detach", "--wait", "--no-build")
            yield self
        finally:
            self("down", "--volumes", "--remove-orphans", "--timeout", "5")

    def client(self) -> httpx.Client:
        """A client outside, of nginx, with the operator's key."""
        return httpx.Client(
            base_url=f"https://localhost:{self.port}",
            headers={"Authorization": f"Bearer {API_KEY}"},
            verify=ssl.create_default_context(cafile=str(self.certificate.path)),
            timeout=60,
        )

    def prometheus(self, query: str) -> list[dict[str, Any]]:
        answer = httpx.get(
            f"http://127.0.0.1:{self.prometheus_port}/api/v1/query", params={"query": query}
        )
        found: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return found

    def containers(self) -> dict[str, dict[str, Any]]:
        """All that run, by name, as the engine describes them."""
        names = self("ps", "--quiet").split()
        return {
            one["Name"].removeprefix(f"/{_PROJECT}-"): one
            for one in json.loads(docker("inspect", *names))
        }

    def of(self, service: str) -> list[str]:
        """The ids of a service's containers."""
        return self("ps", "--quiet", service).split()

    def own_volumes(self) -> None:
        for service, (owner, folder) in _OWNERS.items():
            script = f"touch {folder}/.owned && chown {owner} {folder}"
            options = ["--rm", "--no-deps", "--user", "root", "--cap-add", "CHOWN"]
            self("run", *options, "--entrypoint", "sh", service, "-c", script)


def docker(*arguments: str) -> str:
    """What the engine prints. AssertionError, with what it says, if it refuses."""
    return _run(["docker", *arguments], chosen())


def soon(is_so: Callable[[], object]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + _SOON_SECONDS
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.2)


def _run(whole: Sequence[str], environment: Mapping[str, str], *, check: bool = True) -> str:
    done = subprocess.run(
        whole,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_STEP_SECONDS,
        check=False,
    )
    assert not check or done.returncode == 0, f"{whole}: {done.stdout}{done.stderr}"
    return done.stdout


def _readable_by_nginx(folder: Path) -> Certificate:
    """A certificate of localhost; nginx's user in the container is another one than ours."""
    folder.mkdir()
    made = self_signed(folder, "DNS:localhost")
    for path, mode in ((folder, 0o755), (made.path, 0o644), (made.key_path, 0o644)):
        path.chmod(mode)
    return made
