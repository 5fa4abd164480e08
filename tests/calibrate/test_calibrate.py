"""`respool calibrate` as people run it: what it prints and writes, and who goes by it."""

import asyncio
import json
from pathlib import Path
from typing import Any

from msgspec import Struct

from cli.calibrate.others import at_work
from core.settings import read_settings
from tests.calibrate.server import FOR_EVER, Server, over_http
from tests.cli.running import StartUp
from tests.gpus.nvml import GIB, FakeNvml, a_gpu
from tests.processes import RESPOOL, clean_environment
from tests.servers import free_port

SHORT = ("--seconds", "0.2", "--most", "3")
A4000 = "NVIDIA RTX A4000"


class Done(Struct):
    """What a command came to."""

    status: int
    out: str
    err: str


async def respool(*arguments: str, **environment: str) -> Done:
    process = await asyncio.create_subprocess_exec(
        RESPOOL,
        *arguments,
        env=clean_environment(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


def box(doctor: Done, name: str) -> dict[str, Any]:
    [found] = [one for one in json.loads(doctor.out)["boxes"] if one["box"] == name]
    return dict(found)


async def test_the_guide_s_example_is_measured_written_applied_and_passes_the_checklist(
    nvml: FakeNvml, tmp_path: Path, start_up: StartUp
) -> None:
    def filled(used_gib: float) -> None:
        nvml.has(a_gpu(A4000, 32, used_gib))

    filled(8)
    env_file = tmp_path / ".env"
    env_file.write_text("API_KEY=secret\nWORKER_CONCURRENCY=4\n", "utf-8")
    server = Server(per_request_gib=12, token_seconds=0.002, changed=filled)
    async with over_http(server) as url:
        there = {"UPSTREAM_URL": url, "RESPOOL_DATA_DIR": str(tmp_path / "data")}
        said = await respool(
            "calibrate", *SHORT, "--env-file", str(env_file), **there, **nvml.environment
        )
        assert said.status == 0, said.err
        shown = [" ".join(line.split()) for line in said.out.splitlines()]
        assert "VRAM per request 12.00 GiB, the first or each of the later ones" in shown
        assert "maximum 1 the guide's: (32.00 x 0.7) / 12.00" in shown
        assert "beside the base 1 (32.00 x 0.7 - 8.00) / 12.00, as the base stays" in shown
        assert server.at_once == 1
        assert env_file.read_text("utf-8") == "API_KEY=secret\nWORKER_CONCURRENCY=1\n"

        report = json.loads((tmp_path / "data" / "calibration.json").read_bytes())
        assert report["recommended"] == 1
        assert report["memory"]["per_request_bytes"] == 12 * GIB
        assert report["devices"][0]["name"] == A4000

        up = start_up(url, WORKER_CONCURRENCY="auto", LOG_LEVEL="info")
        await asyncio.to_thread(up.until_ready)
        assert up.http.get("/v1/workers").json()["workers"][0]["capacity"] == 1
        assert "WORKER_CONCURRENCY=auto is 1: measured on " in up.process.output
        checked = box(await respool("doctor", "--json", **there), "concurrency")
    assert checked["verdict"] == "pass", checked


async def test_it_does_not_measure_what_running_jobs_leave_unless_it_is_told_to(
    tmp_path: Path, start_up: StartUp
) -> None:
    async with over_http(Server(token_seconds=0.002)) as url:
        up = start_up(url, WORKER_CONCURRENCY="auto")
        await asyncio.to_thread(up.until_ready)
        assert "WORKER_CONCURRENCY=auto is 1, which nobody has measured" in up.process.output
        assert up.http.get("/v1/workers").json()["workers"][0]["capacity"] == 1
        up.submit(FOR_EVER)
        there = {"UPSTREAM_URL": url, "RESPOOL_DATA_DIR": str(up.data_dir)}
        async with asyncio.timeout(20):
            while not await at_work(read_settings(there), url):
                await asyncio.sleep(0.05)

        measuring = ("calibrate", *SHORT, "--dry-run")
        refused = await respool(*measuring, **there)
        assert refused.status == 1
        assert f"runs 1 on {url}: pause their queues first (respool pause QUEUE)" in refused.err
        said = await respool(*measuring, "--json", "--beside-jobs", **there)
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert found["notes"][-1].startswith("workers ran jobs there meanwhile")
    assert not (up.data_dir / "calibration.json").exists()


async def test_what_cannot_be_measured_is_one_message(tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text('{"input": "a vector"}', "utf-8")
    away = f"http://127.0.0.1:{free_port()}"
    for arguments, url, message in (
        ((), "", "`respool calibrate` needs UPSTREAM_URL, such as http://localhost:11434"),
        ((), away, f"UPSTREAM_URL: {away} cannot be reached"),
        (("--model", "llama"), "echo:", "echo: has no model 'llama'; it has echo"),
        (("--request", str(request)), "echo:", "takes a request of OpenAI's with `messages`"),
        ((), "echo://?tokens=0", "answers nothing; give it a request that it answers at length"),
    ):
        said = await respool("calibrate", *SHORT, *arguments, UPSTREAM_URL=url)
        assert said.status == 1
        assert message in said.err
        assert said.err.startswith("respool: ")
        assert said.err.count("\n") == 1
