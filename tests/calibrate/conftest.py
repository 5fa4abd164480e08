"""A machine whose GPUs a test chooses, and `respool up` on it."""

from tests.cli.conftest import start_up
from tests.gpus.conftest import nvml, nvml_library

__all__ = ["nvml", "nvml_library", "start_up"]
