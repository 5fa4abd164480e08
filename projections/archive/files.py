"""Where segments lie: a directory by default, or a bucket (`s3.py`). Their calls block; use a thread."""

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from core.archive import ArchiveError

PARTIAL: Final = ".partial"  # A file that is being written, or whose writer died.
_ABANDONED_SECONDS: Final = 3_600


class Files(Protocol):
    """Named bodies. A name may have slashes in it."""

    def put(self, name: str, body: bytes) -> None:
        """Return once a body is there for good, whole, in place of what had its name.

        Raises ArchiveError; it may be there all the same, but never a part of it.
        """

    def get(self, name: str) -> bytes:
        """A body. Raises ArchiveError."""

    def names(self, folder: str) -> list[str]:
        """What is in a folder, by name, without the folder's own; empty if there is none.

        Raises ArchiveError.
        """

    def where(self, name: str) -> str:
        """A name as an operator finds it."""


class Directory:
    """A local directory, or one that is mounted."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, name: str, body: bytes) -> None:
        path = self._path / name
        # Nobody else's, as who was frozen in mid-write would go on in the file that we have put in place.
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path.parent)
            with partial.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            for folder in path.parents:  # A new folder is an entry of another one.
                _sync(folder)
                if folder == self._path.parent:
                    break
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise ArchiveError(
                f"the archive cannot be written: {path}: {error.strerror}"
            ) from error

    def get(self, name: str) -> bytes:
        try:
            return (self._path / name).read_bytes()
        except OSError as error:
            raise ArchiveError(
                f"the archive cannot be read: {self._path / name}: {error.strerror}"
            ) from error

    def names(self, folder: str) -> list[str]:
        try:
            found = [path.name for path in (self._path / folder).iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ArchiveError(
                f"the archive cannot be read: {self._path / folder}: {error.strerror}"
            ) from error
        return sorted(found)

    def where(self, name: str) -> str:
        return str(self._path / name)


def _sweep(folder: Path) -> None:
    """Delete what writers left behind that were killed long ago."""
    for partial in folder.glob(f"*{PARTIAL}"):
        with suppress(OSError):
            if time.time() - partial.stat().st_mtime > _ABANDONED_SECONDS:
                partial.unlink()


def _sync(folder: Path) -> None:
    """Sync a directory: a name that was not is gone after a power cut, whatever became of its file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def files_at(url: str) -> Files:
    """What lies at `file:///PATH` or `s3://BUCKET/PREFIX`. Raises ValueError for another URL."""
    parts = urlsplit(url)
    match parts.scheme:
        case "file" if not parts.netloc and parts.path.startswith("/"):
            return Directory(Path(unquote(parts.path)))
        case "s3" if parts.netloc:
            from projections.archive.s3 import Bucket  # noqa: PLC0415 - boto3 is an extra.

            return Bucket(parts.netloc, unquote(parts.path).strip("/"))
        case _:
            raise ValueError("takes file:///PATH or s3://BUCKET/PREFIX")
