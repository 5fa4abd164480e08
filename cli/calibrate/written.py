"""Where a calibration is kept: a report that `auto` and the doctor read, and a line in an .env file."""

import re
import shutil
from pathlib import Path
from typing import Final

import msgspec

from cli.calibrate.question import CalibrationError
from core.calibration import Calibration, Recommendation

_FOR_ALL: Final = 0o644
_FOR_OWNER: Final = 0o600  # An .env file has secrets in it.
CALIBRATION: Final = "calibration.json"  # In RESPOOL_DATA_DIR.
_LINE: Final = re.compile(r"^([ \t]*(?:export[ \t]+)?WORKER_CONCURRENCY)=[^\r\n]*", re.MULTILINE)


def write_report(data_dir: Path, found: Calibration) -> Path:
    """Where it was written, whole or not at all. Raises CalibrationError."""
    path = data_dir / CALIBRATION
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        _replace(path, msgspec.json.format(msgspec.json.encode(found)) + b"\n", _FOR_ALL)
    except OSError as error:
        raise _unwritten(path, error) from error
    return path


def read_report(data_dir: Path) -> Recommendation | None:
    """What was measured; None if nothing was. Raises CalibrationError if it cannot be read."""
    path = data_dir / CALIBRATION
    try:
        return msgspec.json.decode(path.read_bytes(), type=Recommendation)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path} cannot be read: {error}") from error


def set_in_env_file(path: Path, concurrency: int) -> None:
    """Have the file say WORKER_CONCURRENCY=N, and all else as it was. Raises CalibrationError."""
    try:
        text = path.read_bytes().decode("utf-8") if path.exists() else ""
        _replace(path, with_setting(text, concurrency).encode("utf-8"), _FOR_OWNER)
    except (OSError, UnicodeDecodeError) as error:
        raise _unwritten(path, error) from error


def with_setting(text: str, concurrency: int) -> str:
    """An .env file's text with the setting, where it stood or at the end."""
    changed, lines = _LINE.subn(rf"\g<1>={concurrency}", text)
    if lines:
        return changed
    between = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{between}WORKER_CONCURRENCY={concurrency}\n"


def _replace(path: Path, data: bytes, mode: int) -> None:
    """The file whole, with the rights that it had, else with `mode`."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.touch(mode=mode & _FOR_OWNER if path.exists() else mode)
        unfinished.write_bytes(data)
        if path.exists():
            shutil.copymode(path, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _unwritten(path: Path, error: Exception) -> CalibrationError:
    why = error.strerror if isinstance(error, OSError) else None
    return CalibrationError(f"{path} cannot be written: {why or error}")
