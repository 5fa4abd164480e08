"""What stands in front of the inference server: Respool, LiteLLM's proxy, nginx, and nothing.

Each is one process (Respool: one for each role), on a port of the loopback, and keeps its connections to
the inference server open. None asks for a key.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import CalledProcessError

import httpx
from msgspec import Struct

from benchmarks.environments import python_of
from benchmarks.fixed import MODEL, PACED
from benchmarks.latency import free_port
from benchmarks.roles import NOWHERE, RESPOOL, role
from benchmarks.server import BenchmarkRedis

LITELLM = ("litellm[proxy]==1.106.12",)
WORKER_CONCURRENCY = 64
CHAT = "/v1/chat/completions"
_READY_SECONDS = 300.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Contestant(Struct, frozen=True):
    """Something that answers as an inference server does."""

    name: str
    url: str
    processes: Mapping[str, tuple[int, ...]]  # By what they are.

    def busy_seconds(self) -> dict[str, float]:
        """The processor time that its processes have had."""
        return {
            name: sum(_ticks(pid) for pid in pids) / _TICKS_PER_SECOND
            for name, pids in self.processes.items()
        }


class Missing(Exception):
    """A contestant that cannot be had on this machine; the message says why."""


@contextmanager
def upstream() -> Iterator[Contestant]:
    """The inference server itself."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.fixed", str(port)]
    with _process(command, port, "/v1/models") as (url, pid):
        yield Contestant("direct", url, {"server": (pid,)})


@contextmanager
def nginx(upstream_url: str) -> Iterator[Contestant]:
    """A bare reverse proxy. Raises Missing."""
    binary = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None:
        raise Missing("nginx is not installed (Debian: apt install nginx-light)")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="respool-nginx-") as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(_NGINX.format(folder=folder, port=port, upstream=upstream_url[7:]))
        command = [binary, "-p", folder, "-c", str(config)]
        with _process(command, port, "/v1/models") as (url, pid):
            yield Contestant("nginx", url, {"nginx": (pid, *_children(pid))})


_NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    keepalive_requests 100000000;
    upstream inference {{ server {upstream}; keepalive 128; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://inference; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


@contextmanager
def litellm(upstream_url: str) -> Iterator[Contestant]:
    """LiteLLM's proxy: one process, quiet, with no database and nothing to tell anybody. Raises Missing."""
    try:
        python = python_of("litellm", LITELLM)
    except CalledProcessError as error:
        raise Missing(f"LiteLLM cannot be installed: {error}") from error
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="respool-litellm-") as folder:
        config = Path(folder) / "config.yaml"
        models = (_LITELLM_MODEL.format(model=name, upstream=upstream_url) for name in _MODELS)
        config.write_text("model_list:\n" + "".join(models) + _LITELLM_SETTINGS)
        command = [str(python.parent / "litellm"), "--config", str(config)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
        with _process(command, port, "/health/liveliness", _LITELLM_ENVIRONMENT) as (url, pid):
            yield Contestant("litellm", url, {"litellm": (pid, *_children(pid))})


_MODELS = (MODEL, PACED)
_LITELLM_MODEL = """\
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: {upstream}/v1
      api_key: none
"""
_LITELLM_SETTINGS = """\
litellm_settings:
  set_verbose: false
  telemetry: false
  num_retries: 0
  request_timeout: 60
"""
_LITELLM_ENVIRONMENT = {
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # Or it would fetch one.
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}


@contextmanager
def respool(
    upstream_url: str,
    redis: BenchmarkRedis,
    program: Sequence[str] = RESPOOL,
    log: Path = NOWHERE,
    /,
    **settings: str,
) -> Iterator[Contestant]:
    """An API process and a worker process. The worker leaves queues alone but for `default`."""
    port = free_port()
    settings = {
        "API_PORT": str(port),
        "WORKER_CONCURRENCY": str(WORKER_CONCURRENCY),
        "WORKER_QUEUES": "default",
        "UPSTREAM_URL": upstream_url,
        "QUEUE_LIMIT": "10000000",
        **settings,
    }
    environment = os.environ | {"REDIS_URL": redis.url}
    subprocess.run([*RESPOOL, "migrate"], env=environment, stdout=subprocess.DEVNULL, check=True)
    with ExitStack() as stack:
        api, worker = (
            stack.enter_context(role(name, redis.url, program, log, **settings))
            for name in ("api", "worker")
        )
        url = f"http://127.0.0.1:{port}"
        _until_ready(f"{url}/readyz")
        processes = {"api": (api.pid,), "worker": (worker.pid,), "redis": (redis.pid,)}
        yield Contestant("respool", url, processes)


@contextmanager
def bare() -> Iterator[Contestant]:
    """A Litestar handler that only decodes a submission."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.bare", str(port)]
    with _process(command, port, "/") as (url, pid):
        yield Contestant("bare handler", url, {"handler": (pid,)})


@contextmanager
def _process(
    command: Sequence[str], port: int, ready_path: str, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[str, int]]:
    """The base URL and pid of a server that answers, and ends with the block. Raises Missing."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env=os.environ | (environment or {}), stdout=log, stderr=log
        )
        url = f"http://127.0.0.1:{port}"
        try:
            _until_ready(url + ready_path, process)
            yield url, process.pid
        except TimeoutError as error:
            log.seek(0)
            said = log.read()[-2_000:].decode("utf-8", "replace")
            raise Missing(f"{command[0]} does not start: {said}") from error
        finally:
            process.terminate()
            process.wait()


def _until_ready(url: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until something answers, if only that there is no such path. Raises TimeoutError."""
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until and (process is None or process.poll() is None):
        try:
            if httpx.get(url, trust_env=False).status_code < 500:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise TimeoutError(url)


def _children(pid: int) -> tuple[int, ...]:
    return tuple(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def _ticks(pid: int) -> int:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[11]) + int(after_name[12])  # User's and system's.
