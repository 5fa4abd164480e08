"""A directory and a bucket keep what they were given: the same calls, the same answers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from core.archive import ArchiveError
from projections.archive.files import Directory, Files, files_at
from tests.servers import free_port


@pytest.fixture(params=["directory", "bucket"])
def files(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Files]:
    if request.param == "directory":
        yield files_at(f"file://{tmp_path}/deep/archive")
        return
    port = free_port()
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import boto3  # noqa: PLC0415 - it reads the environment.

    boto3.client("s3").create_bucket(Bucket="jobs")
    try:
        yield files_at("s3://jobs/of/ours")
    finally:
        server.stop()


def test_what_was_put_is_there_and_replaces_what_had_its_name(files: Files) -> None:
    assert files.names("store/0") == []
    files.put("store/0/b", b"first")
    files.put("store/0/b", b"second")
    files.put("store/0/a", b"")
    files.put("store/01/c", b"another shard's")
    assert files.names("store/0") == ["a", "b"]
    assert files.get("store/0/b") == b"second"
    with pytest.raises(ArchiveError, match="store/0/none"):
        files.get("store/0/none")


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArchiveError, match="cannot be written"):
        Directory(tmp_path / "file").put("store/0/a", b"")


@pytest.mark.parametrize("url", ["ftp://x/y", "file://host/x", "s3:///x"])
def test_another_url_is_refused_with_what_it_takes(url: str) -> None:
    with pytest.raises(ValueError, match="file:///PATH or s3://BUCKET"):
        files_at(url)
