"""Backups on disk: whole or not there, the newest kept, and every byte as it was written."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.backup.shelf import BackupError, Shelf, backups, check, checksum_of


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with Shelf.held(tmp_path) as shelf:
        yield shelf


def add(shelf: Shelf, body: bytes = b"a dump") -> Path:
    with shelf.adding() as draft:
        draft.write(body[:1])
        draft.write(body[1:])
    return draft.path


def test_a_backup_is_there_with_a_checksum_that_sha256sum_reads(shelf: Shelf) -> None:
    path = add(shelf)
    assert path.read_bytes() == b"a dump"
    check(path)
    said = subprocess.run(
        ["sha256sum", "-c", checksum_of(path).name],
        cwd=path.parent,
        capture_output=True,
        check=True,
    )
    assert said.stdout.decode() == f"{path.name}: OK\n"


def test_one_that_breaks_off_leaves_nothing(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(TypeError), shelf.adding() as draft:
        draft.write("no bytes")  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_what_a_killed_one_left_is_swept_and_was_never_a_backup(tmp_path: Path) -> None:
    left = tmp_path / "respool-20260101T000000Z.rdb.partial"
    left.write_bytes(b"a d")
    assert backups(tmp_path) == []
    with Shelf.held(tmp_path):
        assert not left.exists()


def test_two_of_one_second_have_names_of_their_own_and_the_newest_stay(
    shelf: Shelf, tmp_path: Path
) -> None:
    paths = [add(shelf) for _ in range(4)]
    (tmp_path / "respool-of-somebody.rdb").write_bytes(b"")
    assert [one.path for one in backups(tmp_path)] == paths
    assert shelf.rotate(3) == paths[:1]
    assert not checksum_of(paths[0]).exists()
    assert [one.path for one in backups(tmp_path)] == paths[1:]
    assert (tmp_path / "respool-of-somebody.rdb").exists()


def test_two_processes_do_not_write_to_one_folder(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="another `respool backup`"), Shelf.held(tmp_path):
        pass


def test_a_byte_that_changed_and_a_checksum_that_is_missing_are_named(shelf: Shelf) -> None:
    path = add(shelf)
    path.write_bytes(b"a dumb")
    with pytest.raises(BackupError, match=f"{path.name} is not what was written"):
        check(path)
    checksum_of(path).unlink()
    with pytest.raises(BackupError, match=r"\.sha256 is missing"):
        check(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    held = Shelf.held(tmp_path / "file" / "backups")
    with pytest.raises(BackupError, match="file/backups cannot be written"), held:
        pass
