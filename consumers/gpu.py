"""The GPUs of this machine, as NVML tells them."""

import pynvml
from msgspec import Struct

from core.events import Gpu


def gpus() -> tuple[Gpu, ...]:
    """Every GPU that NVML sees; none where there is no NVIDIA driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_gpu(index) for index in range(pynvml.nvmlDeviceGetCount()))
    finally:
        pynvml.nvmlShutdown()


class GpuMemory(Struct, frozen=True):
    """The memory of one device, in bytes: the device's figure, whoever uses it."""

    index: int
    used: int
    total: int


def gpu_memory() -> tuple[GpuMemory, ...]:
    """How full every GPU is now; none where NVML sees none, or does not say. It blocks for milliseconds."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_memory(index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _memory(index: int) -> GpuMemory:
    memory = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(index))
    return GpuMemory(index, int(memory.used), int(memory.total))


def _gpu(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(index, str(pynvml.nvmlDeviceGetName(handle)), int(memory.total))
