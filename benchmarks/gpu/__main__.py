"""Measure the server as a user would, run jobs by what was found, and compare it with what the server knows.

Example: python -m benchmarks.gpu --context 16384 --most 32, and again with --preallocated.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import torch

from benchmarks.gpu.engine import NAME, Engine
from benchmarks.gpu.model import Model, Shape
from core.calibration import Calibration
from tests.processes import RESPOOL, clean_environment
from tests.servers import free_port
from tests.upstream.fake import serving

_GIB = 2**30
_TERMINAL = ("completed", "failed", "cancelled")


async def main() -> None:
    asked = _arguments()
    model = Model(Shape(context=asked.context))
    engine = Engine(model, asked.slots, preallocated=asked.preallocated)
    async with serving(engine.answer) as server:
        with tempfile.TemporaryDirectory() as data_dir:
            settings = {"UPSTREAM_URL": server.url, "RESPOOL_DATA_DIR": data_dir}
            found = await _calibrated(settings, asked)
            seen = await _worked(settings, asked.jobs)
    device = torch.cuda.get_device_name()
    print(f"\n{device}, {_total_gib():.2f} GiB; a model of random weights")
    print(f"a request's cache        {model.shape.cache_bytes / _GIB:.3f} GiB, by its shape")
    if found.memory is not None:
        print(f"a request, as measured   {found.memory.per_request_bytes / _GIB:.3f} GiB")
    print(f"recommended              {found.recommended}")
    print(f"slots with auto          {seen['capacity']}")
    print(f"{asked.jobs} jobs                  {seen['outcomes']}, in {seen['seconds']:.1f} s")
    print(f"GPU, in GET /v1/workers  {seen['gpus']}")
    print(f"CUDA, at that moment     {seen['cuda_gib']:.2f} GiB in use")
    print(f"metrics                  {seen['metrics']}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--context", type=int, default=16_384, help="tokens of a request's cache")
    parser.add_argument("--slots", type=int, default=32, help="requests that the server runs")
    parser.add_argument("--preallocated", action="store_true", help="take all caches at the start")
    parser.add_argument("--most", type=int, default=32, help="of respool calibrate")
    parser.add_argument("--seconds", type=float, default=4.0, help="of respool calibrate")
    parser.add_argument("--jobs", type=int, default=60, help="to run with what was found")
    return parser.parse_args()


async def _calibrated(settings: dict[str, str], asked: argparse.Namespace) -> Calibration:
    command = ["calibrate", "--most", str(asked.most), "--seconds", str(asked.seconds)]
    process = await asyncio.create_subprocess_exec(
        RESPOOL, *command, env=clean_environment(settings | {"COLUMNS": "120"})
    )
    if await process.wait():
        sys.exit("respool calibrate failed")
    report = Path(settings["RESPOOL_DATA_DIR"]) / "calibration.json"
    return msgspec.json.decode(report.read_bytes(), type=Calibration)


async def _worked(settings: dict[str, str], jobs: int) -> dict[str, Any]:
    """What is seen of jobs on a worker with WORKER_CONCURRENCY=auto."""
    async with _up(settings | {"WORKER_CONCURRENCY": "auto"}) as (api, worker):
        loop = asyncio.get_running_loop()
        began = loop.time()
        ids = [await _submitted(api, number) for number in range(jobs)]
        while len((shown := await _worker(api))["running"]) < shown["capacity"]:
            await asyncio.sleep(0.1)
        await asyncio.sleep(12)  # GPUs are read each five seconds, and told with a heartbeat.
        shown, in_use = await _worker(api), _in_use_gib()
        scraped = (await worker.get("/metrics")).text.splitlines()
        statuses = [await _ended(api, one) for one in ids]
        outcomes = {status: statuses.count(status) for status in set(statuses)}
        return {
            "capacity": shown["capacity"],
            "gpus": shown["gpus"],
            "cuda_gib": in_use,
            "metrics": [line for line in scraped if line.startswith("worker_gpu_memory_bytes{")],
            "outcomes": outcomes,
            "seconds": loop.time() - began,
        }


async def _submitted(api: httpx.AsyncClient, number: int) -> str:
    messages = [{"role": "user", "content": f"Request {number}."}]
    request = {"messages": messages, "max_tokens": 400}
    answer = await api.post("/v1/jobs", json={"model": NAME, "request": request})
    return str(answer.raise_for_status().json()["id"])


async def _worker(api: httpx.AsyncClient) -> Any:
    [worker] = (await api.get("/v1/workers")).raise_for_status().json()["workers"]
    return worker


async def _ended(api: httpx.AsyncClient, job_id: str) -> str:
    while True:
        job = (await api.get(f"/v1/jobs/{job_id}")).raise_for_status().json()
        if job["status"] in _TERMINAL:
            return str(job["status"])
        await asyncio.sleep(0.2)


@asynccontextmanager
async def _up(
    settings: dict[str, str],
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """`respool up`, ready: clients of its API and of its worker's port."""
    ports = {"API_PORT": str(free_port()), "WORKER_PORT": str(free_port())}
    process = await asyncio.create_subprocess_exec(
        RESPOOL, "up", env=clean_environment(settings | ports)
    )
    try:
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports['API_PORT']}") as api,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports['WORKER_PORT']}") as worker,
        ):
            while not await _is_ready(api):
                await asyncio.sleep(0.1)
            yield api, worker
    finally:
        process.terminate()
        await process.wait()


async def _is_ready(api: httpx.AsyncClient) -> bool:
    try:
        return (await api.get("/readyz")).is_success
    except httpx.TransportError:
        return False


def _total_gib() -> float:
    return float(torch.cuda.mem_get_info()[1] / _GIB)


def _in_use_gib() -> float:
    free, total = torch.cuda.mem_get_info()
    return float((total - free) / _GIB)


asyncio.run(main())
