"""What lies on disk: backups, and reports of what was done."""

import os
import resource
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from cli.backup.shelf import BackupError, backups
from cli.doctor.facts import Backups, Machine, Report, Unknown
from core.settings import Settings


def kept(settings: Settings) -> Backups | Unknown:
    """The newest backups. A folder that nobody named, and that is not there, is not known."""
    folder = settings.backup_dir
    if not folder.exists() and not os.environ.get("BACKUP_DIR", "").strip():
        return Unknown(f"there is no folder {folder}")
    try:
        newest = tuple(one.at for one in backups(folder)[-2:][::-1])
    except BackupError as error:
        return Unknown(str(error))
    return Backups(str(folder), newest)


def report(path: Path | None, variable: str, needs: Mapping[str, type]) -> Report | Unknown:
    """A JSON file with the fields that it needs. It is of its field `at`, else of when it was written."""
    if path is None:
        return Unknown(f"{variable} is not set")
    try:
        fields: Any = msgspec.json.decode(path.read_bytes())
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return Unknown(f"there is no {path}")
    except (OSError, msgspec.DecodeError) as error:
        return Unknown(f"{path} cannot be read: {error}")
    has = fields if isinstance(fields, dict) else {}
    lacking = [name for name, kind in needs.items() if not isinstance(has.get(name), kind)]
    if lacking:
        return Unknown(f"{path} has no {', '.join(lacking)} as docs/doctor.md says")
    try:
        at = datetime.fromisoformat(fields["at"]) if "at" in fields else written
    except (TypeError, ValueError):
        return Unknown(f"{path} has no time in its field `at`")
    return Report(str(path), at, fields)


def machine() -> Machine:
    """What this process may use of this machine."""
    return Machine(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
