"""What a calibration found: kept for `WORKER_CONCURRENCY=auto` and for `respool doctor`."""

from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from core.errors import Mendable
from core.settings import Settings

_NAME: Final = "calibration.json"


class RecordError(Mendable):
    """A record cannot be written, or read."""


class Calibration(Struct, frozen=True, kw_only=True):
    """What was measured, of which server, and what follows."""

    at: datetime
    upstream: str
    model: str
    recommended: int  # Jobs at once.
    why: str


def record_path(settings: Settings) -> Path:
    """Where the record lies: on the machine of the worker."""
    return settings.respool_data_dir / _NAME


def read_record(settings: Settings) -> Calibration | None:
    """What was last measured here; None if nothing was. Raises RecordError for what is no record."""
    path = record_path(settings)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Calibration)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise RecordError(
            f"{path} is no calibration: {error}; `respool calibrate` makes it anew"
        ) from error


def write_record(settings: Settings, found: Calibration) -> Path:
    """Keep it, in place of what was there. Raises RecordError."""
    path = record_path(settings)
    partial = path.with_name(_NAME + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
        partial.replace(path)
    except OSError as error:
        raise RecordError(f"{path} cannot be written: {error.strerror}") from error
    return path
