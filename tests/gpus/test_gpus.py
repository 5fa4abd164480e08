"""What NVML says of a machine's devices, and where it gets to: worker_started, heartbeats, metrics."""

import threading

import pytest

from consumers.gpu import gpu_memory, gpus, watching_gpus
from core.events import Gpu
from core.roster import GpuMemory
from tests.gpus.nvml import GIB, FakeNvml, a_gpu

A4000 = "NVIDIA RTX A4000"
A100 = "NVIDIA A100-SXM4-40GB"


@pytest.fixture
def here(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    nvml.load_here(monkeypatch)
    return nvml


def test_every_gpu_is_told_with_its_memory(here: FakeNvml) -> None:
    here.has(a_gpu(A4000, 16, 3), a_gpu(A100, 40, 39))
    assert gpus() == (Gpu(0, A4000, 16 * GIB), Gpu(1, A100, 40 * GIB))
    assert gpu_memory() == (GpuMemory(0, 3 * GIB, 16 * GIB), GpuMemory(1, 39 * GIB, 40 * GIB))


def test_instances_of_a_gpu_that_is_cut_up_are_devices_and_it_is_none(here: FakeNvml) -> None:
    instances = [
        a_gpu(f"{A100} MIG {size}", 20, used, "mig") for size, used in (("3g", 1), ("4g", 2))
    ]
    here.has(a_gpu(A100, 40, "cut"), *instances, a_gpu(A4000, 16, 3))
    assert [(one.index, one.name) for one in gpus()] == [
        (0, f"{A100} MIG 3g"),
        (1, f"{A100} MIG 4g"),
        (2, A4000),
    ]
    assert [one.used_bytes // GIB for one in gpu_memory()] == [1, 2, 3]


@pytest.mark.parametrize("silence", ["-", "lost"])
def test_a_device_that_says_nothing_is_left_out_and_the_others_keep_their_numbers(
    here: FakeNvml, silence: str
) -> None:
    here.has(a_gpu("NVIDIA GB10", 0, silence), a_gpu(A4000, 16, 3))
    assert [one.index for one in gpus()] == [one.index for one in gpu_memory()] == [1]


def test_without_a_driver_there_are_none(here: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAKE_NVML")
    assert (gpus(), gpu_memory()) == ((), ())


def test_a_driver_that_hangs_holds_up_nobody_and_its_last_word_is_forgotten() -> None:
    full = (GpuMemory(0, 3 * GIB, 16 * GIB),)
    asked, hangs, is_asked_again = [0], threading.Event(), threading.Event()

    def read() -> tuple[GpuMemory, ...]:
        asked[0] += 1
        if asked[0] > 1:
            is_asked_again.set()
            hangs.wait()
        return full

    with watching_gpus(read, every_seconds=0.05) as memory:
        assert memory() == full
        assert is_asked_again.wait(5)
        while memory():  # Ends, or the test does not.
            pass
        hangs.set()
