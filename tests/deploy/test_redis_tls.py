"""Redis over TLS, by a certificate of one's own: every role and every command of the program gets there."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from core.errors import StoreUnavailable
from core.redis import answering, connect
from tests.certificates import Certificate, self_signed
from tests.deploy.servers import ADMIN_PASSWORD, PASSWORD, DeployedRedis
from tests.processes import Process, respool, until_ok
from tests.servers import free_port, running


class TlsRedis(DeployedRedis):
    """The deployed Redis with a port for TLS; the other one is for the test's own look at it."""

    def __init__(self, folder: Path, certificate: Certificate) -> None:
        self.certificate = certificate
        self.tls_port = free_port()
        tls = {
            "--tls-port": str(self.tls_port),
            "--tls-cert-file": str(certificate.path),
            "--tls-key-file": str(certificate.key_path),
            "--tls-ca-cert-file": str(certificate.path),
            "--tls-auth-clients": "no",
            "--repl-diskless-sync-delay": "0",  # A backup need not wait for others that want one.
        }
        super().__init__(folder, *(text for pair in tls.items() for text in pair))

    def tls_url(self, user: str, password: str) -> str:
        trusted = f"ssl_ca_certs={self.certificate.path}"
        return f"rediss://{user}:{password}@127.0.0.1:{self.tls_port}/0?{trusted}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[TlsRedis]:
    with running(TlsRedis(tmp_path_factory.mktemp("redis"), certificate)) as server:
        yield server  # type: ignore[misc] # running() gives back what it was given.


def test_every_role_and_command_gets_there(
    redis: TlsRedis, certificate: Certificate, tmp_path: Path
) -> None:
    program, operator = redis.tls_url("respool", PASSWORD), redis.tls_url("default", ADMIN_PASSWORD)
    port = free_port()
    api_url, backups = f"http://127.0.0.1:{port}", str(tmp_path / "backups")

    def does(*arguments: str, url: str = program, **environment: str) -> str:
        log_path = tmp_path / "command.log"
        process = Process(log_path, *arguments, REDIS_URL=url, **environment)
        assert process.wait() == 0, process.output
        return process.output

    does("migrate")
    with ExitStack() as stack:
        roles = {
            "api": {"API_PORT": str(port)},
            "worker": {"UPSTREAM_URL": "echo:", "WORKER_PORT": "0"},
            "projector": {},
        }
        for role, settings in roles.items():
            log_path = tmp_path / f"{role}.log"
            stack.enter_context(respool(log_path, role, REDIS_URL=program, **settings))
        until_ok(f"{api_url}/readyz")
        does("submit", "--model", "echo", "--watch", "hi", RESPOOL_URL=api_url)
        assert "completed" in does("jobs", "--json", RESPOOL_URL=api_url)
        assert "forgot 1 job:" in does("forget", "--tenant", "default", "--yes")
    does("keys", "make", "batch")
    does("projector", "--check")
    does("replay", "state", "--at", "0s ago")
    does("replay", "verify")
    does("backup", url=operator, BACKUP_DIR=backups)
    folder = tmp_path / "other"
    folder.mkdir()
    with running(TlsRedis(folder, certificate)) as other:
        assert isinstance(other, TlsRedis)
        does("restore", backups, url=other.tls_url("default", ADMIN_PASSWORD))


@pytest.mark.parametrize(
    ("host", "trusts", "why"),
    [("127.0.0.1", False, "certificate verify failed"), ("localhost", True, "Hostname mismatch")],
    ids=["a certificate that nobody vouches for", "another host's certificate"],
)
async def test_who_cannot_prove_who_he_is_is_not_talked_to(
    redis: TlsRedis, host: str, trusts: bool, why: str
) -> None:
    url = redis.tls_url("respool", PASSWORD).replace("@127.0.0.1:", f"@{host}:")
    client = connect(url if trusts else url.partition("?")[0])
    with pytest.raises(StoreUnavailable, match=why):
        async with answering():
            await client.ping()
    await client.aclose()
