"""Backups on disk: `respool-TIME.rdb`, there once it is whole, and beside it the line that `sha256sum -c` reads."""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final, Self

from msgspec import Struct

from core.errors import Mendable

_NAME: Final = re.compile(r"respool-([0-9]{8}T[0-9]{6}Z)\.rdb")
_TIME: Final = "%Y%m%dT%H%M%SZ"
_PARTIAL: Final = ".partial"
_CHUNK_BYTES: Final = 1024 * 1024


class BackupError(Mendable):
    """A backup cannot be written, or is not as it was written."""


class Backup(Struct, frozen=True, order=True):
    """A backup, and when it was begun, by the clock of whoever made it."""

    at: datetime
    path: Path


def backups(folder: Path) -> list[Backup]:
    """All backups in a folder, the oldest first. Raises BackupError if it cannot be read."""
    try:
        found = [(path, _NAME.fullmatch(path.name)) for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BackupError(f"{folder} cannot be read: {error.strerror}") from error
    return sorted(
        Backup(datetime.strptime(name[1], _TIME).replace(tzinfo=UTC), path)
        for path, name in found
        if name
    )


class Shelf:
    """A folder of backups, to which one process at a time adds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    @contextmanager
    def held(cls, folder: Path) -> Iterator[Self]:
        """The folder, made if there is none. Raises BackupError if another process adds to it."""
        with _naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / ".lock").open("a+")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BackupError(f"another `respool backup` is writing to {folder}") from error
            for left in folder.glob(f"respool-*{_PARTIAL}"):  # By one that was killed.
                left.unlink(missing_ok=True)
            yield cls(folder)

    @contextmanager
    def adding(self) -> Iterator["Draft"]:
        """A backup to write to. It is there once the block has ended, and if that fails it never was.

        Raises BackupError.
        """
        path = self._new_path()
        partial = path.with_name(path.name + _PARTIAL)
        with _naming(path):
            try:
                with partial.open("xb") as file:
                    draft = Draft(path, file)
                    yield draft
                    file.flush()
                    os.fsync(file.fileno())
                _write_checksum(path, draft.sha256)
                partial.rename(path)  # Last: what has this name is whole, and has its checksum.
                _sync(self._folder)
            except BaseException:
                with suppress(OSError):
                    partial.unlink(missing_ok=True)
                    if not path.exists():
                        checksum_of(path).unlink(missing_ok=True)
                raise

    def _new_path(self) -> Path:
        at = datetime.now(UTC)
        while (path := self._folder / f"respool-{at.strftime(_TIME)}.rdb").exists():
            at += timedelta(seconds=1)  # Two of one second.
        return path

    def rotate(self, keep: int) -> list[Path]:
        """Delete all but the newest `keep`, at least 1; those that are gone. Raises BackupError."""
        assert keep >= 1
        gone = [one.path for one in backups(self._folder)[:-keep]]
        for path in gone:
            with _naming(path):
                path.unlink()
                checksum_of(path).unlink(missing_ok=True)
        return gone


class Draft:
    """A backup that is being written."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path  # That it will have.
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self._file.write(chunk)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def check(path: Path) -> None:
    """Raises BackupError unless a backup is, to the byte, what was written."""
    with _naming(path, "read"):
        try:
            said = checksum_of(path).read_text("ascii").split()[0]
        except FileNotFoundError as error:
            raise BackupError(
                f"{checksum_of(path)} is missing, so nobody knows whether {path.name} is whole: put it back, "
                f"or, if you know, make it: sha256sum {path.name} > {checksum_of(path).name}"
            ) from error
        except (IndexError, UnicodeDecodeError) as error:
            raise BackupError(f"{checksum_of(path)} is no checksum of sha256sum") from error
        with path.open("rb") as file:
            is_so = _digest(file) == said
    if not is_so:
        raise BackupError(
            f"{path} is not what was written: its sha256 is not that of {checksum_of(path).name}; "
            "take an older backup"
        )


def checksum_of(path: Path) -> Path:
    """The file with a backup's checksum."""
    return path.with_name(path.name + ".sha256")


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _write_checksum(path: Path, sha256: str) -> None:
    partial = path.with_name(f"{path.name}.sha256{_PARTIAL}")
    with partial.open("w", encoding="ascii") as file:
        file.write(f"{sha256}  {path.name}\n")
        file.flush()
        os.fsync(file.fileno())
    partial.rename(checksum_of(path))


def _sync(folder: Path) -> None:
    """Sync a folder's own list of names."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _naming(path: Path, what: str = "written") -> Iterator[None]:
    """Raises BackupError, with the path, for what the system does not do."""
    try:
        yield
    except OSError as error:
        raise BackupError(f"{path} cannot be {what}: {error.strerror or error}") from error
