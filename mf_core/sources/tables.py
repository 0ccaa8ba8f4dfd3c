"""Ratings from Parquet files and from a query on another database."""

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from mf_core.config import SourceConfig
from mf_core.errors import DatabaseError, InputError
from mf_core.sources.chunks import Chunk, RawRows, Rules, check_rows


@dataclass(frozen=True)
class _Columns:
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


def read_parquet(path: Path, name: str, source: SourceConfig, rules: Rules) -> Iterator[Chunk]:
    """Yield the rows of a Parquet file in chunks of `source.chunk_rows`.

    A row's line is its number in the file, from 1.

    Raises:
        InputError: it is no whole Parquet file, or lacks a column.
    """
    try:
        with pq.ParquetFile(path) as file:
            columns = _wanted_columns(file.schema_arrow.names, name, source)
            batches = file.iter_batches(batch_size=source.chunk_rows, columns=columns.present())
            line = 1
            for batch in batches:
                yield check_rows(_raw_rows(batch, columns, line), rules)
                line += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{name}: expected a whole Parquet file, got {error}. Write or fetch it again."
        ) from None


def spool_query(source: SourceConfig, environ: Mapping[str, str], path: Path) -> None:
    """Write the wanted columns of `source.query` to the Parquet file `path`, as text.

    Raises:
        InputError: the environment variable or the query is missing or wrong, or a column is not
            in the result.
        DatabaseError: the other database can't be reached.
    """
    url = _database_url(source, environ)
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            # Nothing commits here, so a query that writes leaves no trace.
            streamed = connection.execution_options(
                stream_results=True, yield_per=source.chunk_rows, no_parameters=True
            )
            _write_rows(streamed.exec_driver_sql(source.query), source, path)
    except (ArgumentError, NoSuchModuleError, ImportError):
        # The message would show the URL, and with it the password.
        raise InputError(
            f"{source.database_url_env} can't be used; "
            "expected a SQLAlchemy URL whose driver is installed."
        ) from None
    except SQLAlchemyError as error:
        _raise_for(error, source)


def _database_url(source: SourceConfig, environ: Mapping[str, str]) -> str:
    url = environ.get(source.database_url_env)
    if url and source.query.strip():
        return url

    variable = f"the environment variable {source.database_url_env}"
    missing = "source.query" if url else variable
    raise InputError(
        f"expected a query on another database (source.uri = sql), but {missing} is empty. Set it."
    )


def _raise_for(error: SQLAlchemyError, source: SourceConfig) -> NoReturn:
    """Raise what an error of the other database means: it is away, or the query is wrong."""
    never_answered = isinstance(error, sa.exc.InterfaceError)
    refused_statement = False
    if isinstance(error, sa.exc.OperationalError):
        # SQLite calls a missing table operational as well; then the error names the statement.
        refused_statement = error.statement is not None
        never_answered = not refused_statement

    if never_answered:
        raise DatabaseError(
            f"the source database did not answer: {_reason(error)}. "
            f"Check {source.database_url_env}."
        ) from None

    advice = "Correct the query." if refused_statement else "It must be one SELECT."
    raise InputError(
        f"source.query was refused by the source database: {_reason(error)}. {advice}"
    ) from None


def _reason(error: SQLAlchemyError) -> str:
    """Return the first line of the driver's message, which shows neither URL nor parameters."""
    original = getattr(error, "orig", None) or error
    lines = str(original).strip().splitlines()
    if not lines:
        return type(error).__name__
    return lines[0]


def _write_rows(result: Any, source: SourceConfig, path: Path) -> None:
    """Write the wanted columns of a query's result to `path`, so many rows at a time."""
    columns = _wanted_columns(list(result.keys()), "the query's result", source)
    names = columns.present()
    schema = pa.schema([(name, pa.string()) for name in names])

    with pq.ParquetWriter(path, schema) as writer:
        for rows in result.mappings().partitions(source.chunk_rows):
            texts = {}
            for name in names:
                texts[name] = [_text(row[name]) for row in rows]
            writer.write_table(pa.table(texts, schema=schema))


def _text(value: Any) -> str:
    """Return a value of any database as text, "" for NULL."""
    if value is None:
        return ""
    text = value.isoformat() if isinstance(value, datetime.date) else str(value)
    # Arrow holds no lone surrogates.
    return text.encode("utf-8", errors="backslashreplace").decode()


def _wanted_columns(names: list[str], name: str, source: SourceConfig) -> _Columns:
    """Return which of the columns `names` are read; the time may be absent."""
    columns = _Columns(
        user=source.user_column,
        item=source.item_column,
        rating=source.rating_column,
        time=source.time_column if source.time_column in names else None,
        side=source.side_column or None,
    )
    missing = [column for column in columns.present() if column not in names]
    if missing:
        raise InputError(
            f"{name}: expected the column(s) {', '.join(missing)}, got {names}. "
            "Check source.*_column."
        )
    return columns


def _raw_rows(batch: Any, columns: _Columns, first_line: int) -> RawRows:
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
