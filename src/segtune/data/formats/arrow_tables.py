"""Cells with images in Parquet and Arrow files, as Hugging Face's `datasets` stores them."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segtune.errors import ConfigError, DataError

_KEPT_GROUPS = 2  # groups of rows of a Parquet file that stay in memory


def columns_of(path: Path) -> list[str]:
    """The columns whose cells may hold the bytes of an image; none of a file that is no table."""
    pa = _arrow()
    try:
        schema = _schema(path)
    except (pa.ArrowException, OSError, ValueError):
        return []
    return [field.name for field in schema if _holds_bytes(field.type)]


def refuse_damaged(path: Path) -> None:
    """Refuse a file that is called as a table and is none, such as a half download.

    Raises:
        DataError: it cannot be opened.
    """
    try:
        _schema(path)
    except (_arrow().ArrowException, OSError, ValueError) as error:
        fault = (str(error).strip().splitlines() or ["no table"])[0]
        raise DataError(
            f"'{path}' cannot be read as a table ({fault}). Download it again, or remove it."
        ) from None


def _holds_bytes(kind: Any) -> bool:
    """Whether cells are bytes, or a structure of `bytes` and `path`."""
    types = _arrow().types
    if types.is_struct(kind):
        names = [kind.field(index).name for index in range(kind.num_fields)]
        return "bytes" in names
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _schema(path: Path) -> Any:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_schema(path)
    return _open_arrow(path).schema


def _open_arrow(path: Path) -> Any:
    """A reader of an Arrow file; its cells are read from the disk when they are asked for."""
    import pyarrow.ipc

    source = _arrow().memory_map(str(path))
    try:
        return pyarrow.ipc.open_stream(source)
    except _arrow().ArrowInvalid:
        return pyarrow.ipc.open_file(source)


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise ConfigError(
            "Parquet and Arrow files need pyarrow: pip install 'segtune[hf]'."
        ) from None
    return pyarrow


class Cells:
    """The cells of a table with images; threads may share it.

    Attributes:
        rows: number of rows.

    Raises:
        DataError: the file cannot be read.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, list(columns)
        self._lock = threading.Lock()
        self._groups: dict[int, Any] = {}  # group -> its rows, the last used ones
        self._file: Any = None
        try:
            if path.suffix == ".parquet":
                import pyarrow.parquet

                self._file = pyarrow.parquet.ParquetFile(path)
                facts = self._file.metadata
                sizes = [facts.row_group(g).num_rows for g in range(facts.num_row_groups)]
            else:
                self._groups[0] = _open_arrow(path).read_all().select(self.columns)
                sizes = [self._groups[0].num_rows]
        except (_arrow().ArrowException, OSError, ValueError) as error:
            raise self._unreadable(error) from None
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        self.rows = int(self._starts[-1])

    def read(self, row: int, column: str) -> bytes:
        """The bytes of an image file; those of the file that the cell names, where it holds none.

        Raises:
            DataError: the cell is empty, or names a file that is not there.
        """
        cell = self._cell(row, column)
        stored = cell.get("bytes") if isinstance(cell, dict) else cell
        if stored:
            return bytes(stored)
        named = str((cell.get("path") if isinstance(cell, dict) else "") or "")
        if named and (self.path.parent / named).is_file():
            return (self.path.parent / named).read_bytes()
        file = f"the path '{named}', which is no file here" if named else "nothing"
        raise DataError(f"'{self.path}' row {row}, {column}, holds no bytes, and {file}.")

    def paths(self, column: str) -> list[str]:
        """The path that each row states, without reading images; empty for none."""
        import pyarrow.compute

        table = self._groups.get(0)
        if self._file is not None:
            table = self._file.read(columns=[f"{column}.path"])
        if table is None or column not in table.column_names:  # plain bytes state none
            return [""] * self.rows
        kind = table.schema.field(column).type
        if not _arrow().types.is_struct(kind) or kind.get_field_index("path") < 0:
            return [""] * self.rows
        paths = pyarrow.compute.struct_field(table.column(column), "path")
        return [str(path or "") for path in paths.to_pylist()]

    def _cell(self, row: int, column: str) -> Any:
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        with self._lock:
            table = self._groups.pop(group, None)
            if table is None:
                table = self._read_group(group)
            self._groups[group] = table
            while len(self._groups) > _KEPT_GROUPS:
                self._groups.pop(next(iter(self._groups)))
        return table.column(column)[row - int(self._starts[group])].as_py()

    def _read_group(self, group: int) -> Any:
        try:
            return self._file.read_row_group(group, columns=self.columns)
        except (_arrow().ArrowException, OSError, ValueError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(f"'{self.path}' cannot be read as a table: {error}")
