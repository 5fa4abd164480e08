"""An archive in a bucket of S3, or of whatever speaks its protocol; boto3 is an extra (`respool[s3]`).

Region, keys and the endpoint of another server come from boto3's own environment: AWS_REGION,
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL_S3. A put object is there whole or not at all, and
for good once it was answered (Amazon S3's consistency model), which is what a segment needs.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

from core.archive import ArchiveError

Answer = TypeVar("Answer")


class Bucket:
    """A prefix in a bucket."""

    def __init__(self, bucket: str, prefix: str) -> None:
        """Raises ValueError if boto3 is not installed."""
        try:
            import boto3  # noqa: F401, PLC0415 - said now, and not in the middle of the first segment.
        except ImportError as error:
            raise ValueError("needs boto3: pip install 'respool[s3]'") from error
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def put(self, name: str, body: bytes) -> None:
        key = self._prefix + name
        _answered(lambda: self._s3.put_object(Bucket=self._bucket, Key=key, Body=body), self, name)

    def get(self, name: str) -> bytes:
        def read() -> bytes:
            found = self._s3.get_object(Bucket=self._bucket, Key=self._prefix + name)
            body: bytes = found["Body"].read()
            return body

        return _answered(read, self, name)

    def names(self, folder: str) -> list[str]:
        prefix = f"{self._prefix}{folder}/"

        def read() -> list[str]:
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, Delimiter="/"
            )
            return sorted(
                one["Key"].removeprefix(prefix)
                for page in pages
                for one in page.get("Contents", ())
            )

        return _answered(read, self, folder)

    def where(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{name}"

    @cached_property
    def _s3(self) -> Any:
        import boto3  # noqa: PLC0415 - it takes its time.

        return boto3.client("s3")


def _answered(ask: Callable[[], Answer], bucket: Bucket, name: str) -> Answer:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as above.

    try:
        return ask()
    except (BotoCoreError, ClientError) as error:
        raise ArchiveError(
            f"the archive does not answer for {bucket.where(name)}: {error}"
        ) from error
