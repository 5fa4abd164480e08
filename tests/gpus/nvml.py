"""A library that stands in for NVIDIA's, so that the product's own calls, and pynvml's, are what is tested."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pynvml
import pytest

GIB: Final = 2**30
_SOURCE: Final = Path(__file__).with_name("fake_nvml.c")


class FakeNvml:
    """Some devices, for this process or for others."""

    def __init__(self, library: Path, table: Path) -> None:
        self._library = library
        self._table = table
        self.environment = {"LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML": str(table)}

    def has(self, *devices: str) -> None:
        """From now on these are there, as fake_nvml.c takes them."""
        unfinished = self._table.with_suffix(".unfinished")
        unfinished.write_text("".join(f"{device}\n" for device in devices), "utf-8")
        unfinished.replace(self._table)

    def load_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have this process find it, too."""
        monkeypatch.setenv("FAKE_NVML", str(self._table))
        monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(self._library)))
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})


def a_gpu(name: str, total_gib: float, used: float | str, kind: str = "gpu") -> str:
    """A device, with what is used of it in GiB, or a word of fake_nvml.c's."""
    said = used if isinstance(used, str) else round(used * GIB)
    return f"{kind} {round(total_gib * GIB)} {said} {name}"


def compiled_nvml(folder: Path) -> Path:
    """The library; the test is skipped where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, which the fake NVML needs (Debian: apt-get install gcc)")
    library = folder / "libnvidia-ml.so.1"
    options = ("-O1", "-Wall", "-Werror", "-shared", "-fPIC")
    subprocess.run([compiler, str(_SOURCE), *options, "-o", str(library)], check=True)
    return library
