"""A machine whose GPUs a test chooses, and what runs on it."""

from pathlib import Path

import pytest

from tests.gpus.nvml import FakeNvml, compiled_nvml
from tests.metrics.conftest import site

__all__ = ["site"]


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(nvml_library: Path, tmp_path: Path) -> FakeNvml:
    """A machine without GPUs, until it is told otherwise."""
    nvml = FakeNvml(nvml_library, tmp_path / "gpus")
    nvml.has()
    return nvml
