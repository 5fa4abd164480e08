"""Environments of their own for what is measured beside Respool, as requirements conflict."""

import subprocess
import sys
from pathlib import Path
from typing import Final

VENVS: Final = Path(__file__).parent / ".venvs"


def python_of(name: str, packages: tuple[str, ...]) -> Path:
    """The Python of an environment, which is made when missing. Raises CalledProcessError."""
    python = VENVS / name / "bin" / "python"
    if not python.exists():
        uv = str(Path(sys.executable).parent / "uv")
        venv = [uv, "venv", "--quiet", "--python", sys.executable, str(VENVS / name)]
        subprocess.run(venv, check=True)
        install = [uv, "pip", "install", "--quiet", "--python", str(python)]
        subprocess.run([*install, *packages], check=True)
    return python
