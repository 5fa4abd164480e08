"""The log's table as files: JSON Lines, and Apache Parquet."""

from pathlib import Path
from typing import Any, Final, Self

import msgspec

from projections.past.table import COLUMNS, CONTENTS, Column, Row
from projections.past.words import moment

# What is held back, as a row group is written at once: enough to compress well, and tens of megabytes.
_GROUP_ROWS: Final = 20_000
_GROUP_CONTENT_BYTES: Final = 32 * 1024 * 1024


class LibraryMissing(Exception):
    """The library that writes a format is not installed."""


class JsonLines:
    """An object a line, without what it has not; times in RFC 3339."""

    def __init__(self, path: Path, *, with_contents: bool) -> None:  # noqa: ARG002
        self.rows = 0
        self._file = path.open("wb")
        self._encoder = msgspec.json.Encoder()

    def __enter__(self) -> Self:
        return self

    def write(self, rows: list[Row]) -> None:
        """Write some more. Raises OSError."""
        for row in rows:
            row["at"] = moment(row["at"])
        self._file.write(self._encoder.encode_lines(rows))
        self.rows += len(rows)

    def __exit__(self, *_: object) -> None:
        self._file.close()


class Parquet:
    """A column for each of `COLUMNS`, in row groups, zstd-compressed."""

    def __init__(self, path: Path, *, with_contents: bool) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415 - an extra, and slow to import.
            from pyarrow import parquet  # noqa: PLC0415
        except ImportError as error:
            message = (
                "Parquet needs pyarrow: pip install 'respool[export]', or export to a .jsonl file"
            )
            raise LibraryMissing(message) from error
        self.rows = 0
        self._pa: Any = pa
        columns = {**COLUMNS, **(CONTENTS if with_contents else {})}
        self._schema: Any = pa.schema([(name, self._type(of)) for name, of in columns.items()])
        self._json = [name for name, of in columns.items() if of is Column.JSON]
        self._contents = list(CONTENTS) if with_contents else []
        self._held: list[Row] = []
        self._held_bytes = 0
        self._file: Any = parquet.ParquetWriter(path, self._schema, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def write(self, rows: list[Row]) -> None:
        """Write some more, once there is enough for a row group. Raises OSError."""
        for row in rows:
            for name in self._json:
                if name in row:
                    row[name] = msgspec.json.encode(row[name]).decode()
            self._held_bytes += sum(len(row.get(name, "")) for name in self._contents)
        self._held += rows
        self.rows += len(rows)
        if len(self._held) >= _GROUP_ROWS or self._held_bytes >= _GROUP_CONTENT_BYTES:
            self._write_held()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._write_held()
        self._file.close()

    def _write_held(self) -> None:
        if self._held:
            group = self._pa.Table.from_pylist(self._held, schema=self._schema)
            self._file.write_table(group)
        self._held, self._held_bytes = [], 0

    def _type(self, column: Column) -> Any:
        pa = self._pa
        match column:
            case Column.TEXT | Column.JSON:
                return pa.string()
            case Column.WHOLE:
                return pa.int64()
            case Column.TIME:
                return pa.timestamp("ms", tz="UTC")
            case Column.NAMES:
                return pa.list_(pa.string())


Writer = JsonLines | Parquet
