"""compose.yaml and its overlays, as Compose itself reads and joins them."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
OVERLAYS: Final = sorted(path.name.split(".")[1] for path in ROOT.glob("compose.*.yaml"))
SIZES: Final = ("small", "medium", "high")
PROFILES: Final = ("worker", "nginx", "grafana", "doctor")
PASSWORDS: Final = {"REDIS_PASSWORD": "of-the-program", "REDIS_ADMIN_PASSWORD": "of-the-operator"}
_TIMEOUT_SECONDS: Final = 60


def chosen(
    overlays: Sequence[str | Path] = (),
    profiles: Sequence[str] = PROFILES,
    env_file: Path = Path(os.devnull),
) -> dict[str, str]:
    """The environment in which `docker compose` means these files, and no .env that may lie around."""
    files = [ROOT / "compose.yaml"]
    files += [ROOT / f"compose.{one}.yaml" if isinstance(one, str) else one for one in overlays]
    names = {"PATH", "HOME", "XDG_RUNTIME_DIR"}
    ours = {
        name: value
        for name, value in os.environ.items()
        if name in names or name.startswith("DOCKER_")  # Nothing that would be a setting.
    }
    return ours | {
        "COMPOSE_FILE": os.pathsep.join(map(str, files)),
        "COMPOSE_PROFILES": ",".join(profiles),
        "COMPOSE_ENV_FILES": str(env_file),
    }


def run(
    *arguments: str,
    overlays: Sequence[str | Path] = (),
    profiles: Sequence[str] = PROFILES,
    env_file: Path = Path(os.devnull),
    **environment: str,
) -> "subprocess.CompletedProcess[str]":
    """What Compose makes of that. The test is skipped where there is no Compose."""
    _require_compose()
    return subprocess.run(
        ["docker", "compose", *arguments],
        env=chosen(overlays, profiles, env_file) | environment,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )


def config(
    *overlays: str | Path,
    profiles: Sequence[str] = PROFILES,
    env_file: Path = Path(os.devnull),
    environment: Mapping[str, str] = PASSWORDS,
) -> dict[str, Any]:
    """The deployment that results. subprocess.CalledProcessError if Compose refuses the files."""
    done = run(
        *("config", "--format", "json"),
        overlays=overlays,
        profiles=profiles,
        env_file=env_file,
        **environment,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _require_compose() -> None:
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    version = subprocess.run(
        ["docker", "compose", "version"], capture_output=True, text=True, check=False
    )
    if version.returncode != 0:
        pytest.skip("Compose is not installed")
