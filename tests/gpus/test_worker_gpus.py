"""A worker's GPUs, to where people see them."""

import subprocess

from tests.gpus.nvml import GIB, FakeNvml, a_gpu
from tests.metrics.conftest import scrape, url_of, value_of
from tests.processes import RESPOOL, clean_environment
from tests.servers import free_port
from tests.tracing.conftest import Site


def test_a_worker_s_gpus_stand_in_its_first_word_its_heartbeats_and_its_metrics(
    site: Site, nvml: FakeNvml
) -> None:
    nvml.has(a_gpu("NVIDIA RTX A4000", 16, 3), a_gpu("NVIDIA A100-SXM4-40GB", 40, 39))
    port = str(free_port())
    site.up(WORKER_PORT=port, **nvml.environment)
    [worker] = site.http.get("/v1/workers").json()["workers"]
    assert [tuple(gpu.values()) for gpu in worker["gpus"]] == [
        (0, "NVIDIA RTX A4000", 16 * GIB, 3 * GIB),
        (1, "NVIDIA A100-SXM4-40GB", 40 * GIB, 39 * GIB),
    ]
    samples = scrape(f"http://127.0.0.1:{port}")
    for gpu, used, total in (("0", 3, 16), ("1", 39, 40)):
        said = [
            value_of(samples, "worker_gpu_memory_bytes", gpu=gpu, kind=kind)
            for kind in ("used", "total")
        ]
        assert said == [used * GIB, total * GIB]
    table = subprocess.run(
        [RESPOOL, "workers"],
        env=clean_environment({"RESPOOL_URL": url_of(site)}),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "NVIDIA RTX A4000 3.0/16.0 GiB" in table.stdout
