"""`respool doctor`, on a running deployment and on none."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.doctor import outside
from cli.doctor.facts import Public, Rules, Unknown
from cli.doctor.files import report
from tests.certificates import self_signed
from tests.cli.running import StartUp
from tests.processes import RESPOOL, clean_environment
from tests.servers import free_port


def doctor(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RESPOOL, "doctor", *arguments],
        cwd=folder,
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def verdicts(said: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert said.stderr == ""
    return {box["box"]: box["verdict"] for box in json.loads(said.stdout)["boxes"]}


def test_a_running_deployment_is_judged_by_what_it_shows(start_up: StartUp, tmp_path: Path) -> None:
    up = start_up().until_ready()
    up.submit("one two three", prefer="wait=20")
    port = json.loads((up.data_dir / "store.json").read_bytes())["port"]
    environment = {
        "RESPOOL_DATA_DIR": str(up.data_dir),
        "RESPOOL_URL": str(up.http.base_url),
        "UPSTREAM_URL": "echo:",
        "PROBE_REDIS": f"127.0.0.1:{port}",
        "LOG_FORMAT": "json",
    }
    said = doctor(tmp_path, "--json", **environment)
    found = verdicts(said)
    assert said.returncode == 1
    passes = {"eviction", "versions", "clock", "migrations", "worker", "views", "health"}
    passes |= {"logs", "upstream", "archive"}
    assert {box for box in passes if found[box] != "pass"} == set()
    assert {box for box, verdict in found.items() if verdict == "fail"} == {
        *("keys", "isolation", "persistence"),  # No key, reachable, and no maxmemory.
    }
    assert {found[box] for box in ("tls", "alerts", "backup", "load", "concurrency")} == {"warn"}
    shown = doctor(tmp_path, **environment)
    assert shown.returncode == 1
    assert "set OPENAI_API_KEY_REQUIRED=true" in shown.stdout
    assert shown.stdout.endswith("3 fail\n")


def test_where_nothing_runs_nothing_passes_that_needs_it(tmp_path: Path) -> None:
    away = f"redis://:secret@127.0.0.1:{free_port()}/0"
    said = doctor(tmp_path, "--json", REDIS_URL=away, RESPOOL_URL=f"http://127.0.0.1:{free_port()}")
    found = verdicts(said)
    assert said.returncode == 1
    assert {found[box] for box in ("eviction", "worker", "health")} == {"fail"}
    assert {found[box] for box in ("tls", "upstream", "isolation")} == {"warn"}
    assert {box for box, verdict in found.items() if verdict == "pass"} <= {"logs", "files"}
    assert "secret" not in said.stdout


@asynccontextmanager
async def answering(
    answers: dict[str, Any], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """A server that answers some paths with JSON, each once a connection, and others with 404."""
    many = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal many
        path = (await reader.readline()).split()[1].decode()
        while await reader.readline() != b"\r\n":
            pass
        many += path == "/v1/models"
        status = "429 Too Many" if path == "/v1/models" and many > 20 else "200 OK"
        if path not in answers:
            status = "404 Not Found"
        body = json.dumps(answers.get(path)).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _vector(*metrics: dict[str, str], value: str = "1") -> dict[str, Any]:
    return {"data": {"result": [{"metric": metric, "value": [0, value]} for metric in metrics]}}


async def test_of_a_prometheus_only_what_is_respool_s_counts() -> None:
    both = [{"job": "gateway", "instance": "a"}, {"job": "other", "instance": "b"}]
    answers = {
        "/api/v1/query?query=proxy_capacity": _vector(both[0]),
        "/api/v1/query?query=up": _vector(*both),
        "/api/v1/rules?type=alert": {
            "data": {"groups": [{"rules": [{"name": "QueueBuildup", "health": "ok"}]}]}
        },
        "/api/v1/alertmanagers": {"data": {"activeAlertmanagers": [{"url": "x"}]}},
    }
    async with answering(answers) as url:
        found = await outside.asked(url, "PROMETHEUS_URL", outside.prometheus)
    assert found == Rules(url, ("a",), (), {"QueueBuildup": "ok"}, 1)


async def test_a_burst_at_the_public_url_is_counted_by_status() -> None:
    async with answering({"/v1/models": {}}) as url:
        found = await outside.asked(url, "PUBLIC_URL", outside.public)
    assert found == Public(url, None, "", 404, {200: 20, 429: 40})


async def test_a_certificate_is_looked_at_as_a_client_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate.path, certificate.key_path)
    async with answering({"/v1/models": {}}, tls) as url:
        found = await outside.public(url)
        assert "cannot be trusted" in found.tls_trouble
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
        until = await outside._certificate_until(url)
    assert 29 <= (until - datetime.now(UTC)).days <= 30


async def test_what_does_not_answer_as_it_should_is_not_known_and_says_so() -> None:
    async with answering({"/readyz": []}) as url:
        found = await outside.asked(url, "RESPOOL_URL", outside.api)
    assert isinstance(found, Unknown)
    assert "does not answer as RESPOOL_URL should" in found.why
    found = await outside.asked(f"http://127.0.0.1:{free_port()}", "RESPOOL_URL", outside.api)
    assert isinstance(found, Unknown)
    assert "does not answer" in found.why


@pytest.mark.parametrize(
    ("answers", "setting", "parallel", "says"),
    [
        ({"/props": {"total_slots": 4}}, "", 4, "total_slots"),
        ({"/api/version": {}}, "3", 3, "OLLAMA_NUM_PARALLEL=3"),
        ({"/api/version": {}}, "", None, "default is 1"),
        ({"/v1/models": {}}, "", None, "--max-num-seqs"),
    ],
    ids=["llama.cpp", "Ollama that was told", "Ollama", "vLLM"],
)
async def test_an_inference_server_says_how_much_it_runs_at_once_or_it_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, Any],
    setting: str,
    parallel: int | None,
    says: str,
) -> None:
    monkeypatch.setenv("OLLAMA_NUM_PARALLEL", setting)
    async with answering(answers) as url:
        found = await outside.upstream(url)
    assert found.parallel == parallel
    assert says in found.why


def test_a_report_says_when_and_what_or_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "load.json"
    for text, says in (
        ("{}", "has no requests"),
        ("[]", "has no requests"),
        ('{"requests": "many"}', "has no requests"),
        ("x", "cannot be read"),
        ('{"requests": 1, "at": "soon"}', "no time"),
    ):
        path.write_text(text, "utf-8")
        found = report(path, "LOAD_REPORT", {"requests": int})
        assert isinstance(found, Unknown)
        assert says in found.why
    path.write_text('{"requests": 1, "at": "2026-07-01T00:00:00Z"}', "utf-8")
    found = report(path, "LOAD_REPORT", {"requests": int})
    assert not isinstance(found, Unknown)
    assert found.at.isoformat() == "2026-07-01T00:00:00+00:00"
