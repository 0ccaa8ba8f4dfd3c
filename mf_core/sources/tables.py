"""Ratings from Parquet files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mf_core.config import SourceConfig
from mf_core.errors import InputError
from mf_core.sources.chunks import Chunk, RawRows, Rules, check_rows, printable
from mf_core.sources.spool import Spool


@dataclass(frozen=True)
class Columns:
    """The names of the columns that are read; None: the source has no such column."""

    user: str
    item: str
    rating: str
    time: str | None
    side: str | None

    def present(self) -> list[str]:
        """Return the names of the columns that are there."""
        needed = [self.user, self.item, self.rating]
        optional = [self.time, self.side]
        return needed + [column for column in optional if column]


def read_parquet(
    path: Path, name: str, source: SourceConfig, rules: Rules, spool: Spool
) -> Iterator[Chunk]:
    """Yield the rows of a Parquet file in chunks of `source.chunk_rows`.

    A row's line is its number in the file, from 1.

    Raises:
        InputError: it is no whole Parquet file, lacks a column, or holds more than the limits.
    """
    try:
        with pq.ParquetFile(path) as file:
            columns = wanted_columns(_column_names(file, name), name, source)
            batches = file.iter_batches(batch_size=source.chunk_rows, columns=columns.present())
            line = 1
            for batch in batches:
                # A file may hold a billion equal rows in a few bytes.
                spool.count(batch.nbytes)
                yield check_rows(_raw_rows(batch, columns, line), rules)
                line += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{name}: expected a whole Parquet file, got {printable(str(error))}. "
            "Write or fetch it again."
        ) from None


def _column_names(file: Any, name: str) -> list[str]:
    """Return the names of a Parquet file's columns. Raises InputError if one stands there twice."""
    names: list[str] = file.schema_arrow.names
    repeated = sorted({column for column in names if names.count(column) > 1})
    if repeated:
        listing = ", ".join(map(printable, repeated))
        raise InputError(f"{name}: expected each column once, got {listing} more than once.")
    return names


def wanted_columns(names: list[str], name: str, source: SourceConfig) -> Columns:
    """Return which of the columns `names` are read; the time may be absent."""
    columns = Columns(
        user=source.user_column,
        item=source.item_column,
        rating=source.rating_column,
        time=source.time_column if source.time_column in names else None,
        side=source.side_column or None,
    )
    missing = [column for column in columns.present() if column not in names]
    if missing:
        raise InputError(
            f"{name}: expected the column(s) {', '.join(missing)}, "
            f"got {', '.join(map(printable, names))}. "
            "Check source.*_column."
        )
    return columns


def _raw_rows(batch: Any, columns: Columns, first_line: int) -> RawRows:
    """Return a batch of rows as text, its first row being the row `first_line` of the file."""
    by_name = {}
    for name in columns.present():
        by_name[name] = _strings(batch.column(name))

    def raw(i: int) -> str:
        """Return a row as a text file would hold it."""
        return "\t".join(by_name[name][i].as_py() for name in columns.present())

    return RawRows(
        user=by_name[columns.user],
        item=by_name[columns.item],
        rating=by_name[columns.rating],
        time=by_name[columns.time] if columns.time else None,
        side=by_name[columns.side] if columns.side else None,
        line=np.arange(first_line, first_line + batch.num_rows, dtype=np.int64),
        raw=raw,
    )


def _strings(column: Any) -> Any:
    """Return an Arrow column as strings, "" for null; a timestamp becomes epoch seconds."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()

    # As seconds, times pass the same checks as those of text files.
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        times = pc.cast(column, pa.timestamp("us"), safe=False)
        microseconds = pc.cast(times, pa.int64())
        column = pc.divide(pc.cast(microseconds, pa.float64()), 1e6)

    texts = pc.cast(column, pa.string())
    return pc.fill_null(texts, "")
