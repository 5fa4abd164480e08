"""The GPUs of this machine, as NVML tells them.

Memory is the device's own figure, whoever uses it: of processes NVML says nothing in a container, or names the
host's. An instance of a GPU that is cut up (MIG) is a device of its own, as it is for CUDA, and the GPU around it
is none. Devices are numbered in NVML's order. What a device does not say leaves that device out, and no more.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import pynvml

from core.events import Gpu
from core.roster import GpuMemory

READ_EVERY_SECONDS: Final = 5.0
_READINGS_MISSED_MAX: Final = 3

Read = Callable[[], tuple[GpuMemory, ...]]
Said = TypeVar("Said")


def gpus() -> tuple[Gpu, ...]:
    """Every device that says how much memory it has; none where there is no NVIDIA driver. It blocks for milliseconds."""
    return _asked(_gpu)


def gpu_memory() -> tuple[GpuMemory, ...]:
    """How full every device is now. It blocks for milliseconds, and for ever where the driver hangs."""
    return _asked(_memory)


@contextmanager
def watching_gpus(
    read: Read = gpu_memory, every_seconds: float = READ_EVERY_SECONDS
) -> Iterator[Read]:
    """What tells how full the devices are, by the last reading; nothing once several of them are missing.

    They are read in a thread that nothing waits for: a driver that hangs would hold up heartbeats, and the
    end of the process.
    """
    ended = threading.Event()
    known = (time.monotonic(), read())

    def keep_reading() -> None:
        nonlocal known
        while not ended.wait(every_seconds):
            known = (time.monotonic(), read())

    def last_read() -> tuple[GpuMemory, ...]:
        read_at, memory = known
        is_late = time.monotonic() - read_at > every_seconds * (_READINGS_MISSED_MAX + 1)
        return () if is_late else memory

    threading.Thread(target=keep_reading, name="gpus", daemon=True).start()
    try:
        yield last_read
    finally:
        ended.set()


def _asked(ask: Callable[[int, Any], Said]) -> tuple[Said, ...]:
    """What each device answers; none without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    answers: list[Said] = []
    try:
        for number, handle in enumerate(_handles()):
            if handle is not None:
                with suppress(pynvml.NVMLError):
                    answers.append(ask(number, handle))
    except pynvml.NVMLError:
        pass  # The driver went away meanwhile.
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return tuple(answers)


def _handles() -> Iterator[Any]:
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError:  # Lost, or not ours to see: it keeps its number.
            yield None
            continue
        if _is_cut_up(handle):
            yield from _instances(handle)
        else:
            yield handle


def _is_cut_up(handle: Any) -> bool:
    try:
        return bool(pynvml.nvmlDeviceGetMigMode(handle)[0])
    except pynvml.NVMLError:  # Most GPUs cannot be.
        return False


def _instances(handle: Any) -> Iterator[Any]:
    """Those that this process may use; NVML's numbers of them have holes."""
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with suppress(pynvml.NVMLError):
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)


def _gpu(number: int, handle: Any) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(number, str(pynvml.nvmlDeviceGetName(handle)), int(memory.total))


def _memory(number: int, handle: Any) -> GpuMemory:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return GpuMemory(number, int(memory.used), int(memory.total))
