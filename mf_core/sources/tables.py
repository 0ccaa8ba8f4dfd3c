"""Ratings from Parquet files and from a query on another database."""

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from mf_core.config import SourceConfig
from mf_core.errors import DatabaseError, InputError
from mf_core.sources.chunks import Chunk, RawRows, Rules, check_rows


def read_parquet(path: Path, name: str, source: SourceConfig, rules: Rules) -> Iterator[Chunk]:
    """Yield the rows of a Parquet file in chunks of `source.chunk_rows`; a row's line is its number in the file, from 1.

    Raises:
        InputError: it is no whole Parquet file, or lacks a column.
    """
    try:
        with pq.ParquetFile(path) as file:
            columns = _wanted_columns(file.schema_arrow.names, name, source)
            line = 1
            for batch in file.iter_batches(
                batch_size=source.chunk_rows, columns=[c for c in columns if c]
            ):
                yield check_rows(_raw_rows(batch, columns, line), rules)
                line += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{name}: expected a whole Parquet file, got {error}. Write or fetch it again."
        ) from None


def spool_query(source: SourceConfig, environ: Mapping[str, str], path: Path) -> None:
    """Write the wanted columns of `source.query` to the Parquet file `path`, as text.

    Raises:
        InputError: the environment variable or the query is missing or wrong, or a column is not in the result.
        DatabaseError: the other database can't be reached.
    """
    url = environ.get(source.database_url_env)
    if not url or not source.query.strip():
        missing = (
            f"the environment variable {source.database_url_env}" if not url else "source.query"
        )
        raise InputError(
            f"expected a query on another database (source.uri = sql), but {missing} is empty. Set it."
        )
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            # Nothing commits here, so a query that writes leaves no trace.
            streamed = connection.execution_options(
                stream_results=True, yield_per=source.chunk_rows, no_parameters=True
            )
            _write_rows(streamed.exec_driver_sql(source.query), source, path)
    except sa.exc.InterfaceError as error:
        raise DatabaseError(
            f"the source database did not answer: {_reason(error)}. Check {source.database_url_env}."
        ) from None
    except sa.exc.OperationalError as error:
        # SQLite calls a missing table operational as well.
        if error.statement is not None:
            raise InputError(
                f"source.query was refused by the source database: {_reason(error)}. Correct the query."
            ) from None
        raise DatabaseError(
            f"the source database did not answer: {_reason(error)}. Check {source.database_url_env}."
        ) from None
    except (ArgumentError, NoSuchModuleError, ImportError):
        # The message would show the URL, and with it the password.
        raise InputError(
            f"{source.database_url_env} can't be used; expected a SQLAlchemy URL whose driver is installed."
        ) from None
    except SQLAlchemyError as error:
        raise InputError(
            f"source.query was refused by the source database: {_reason(error)}. It must be one SELECT."
        ) from None


def _reason(error: SQLAlchemyError) -> str:
    text = str(getattr(error, "orig", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _write_rows(result: Any, source: SourceConfig, path: Path) -> None:
    names = [
        name for name in _wanted_columns(list(result.keys()), "the query's result", source) if name
    ]
    schema = pa.schema([(name, pa.string()) for name in names])
    with pq.ParquetWriter(path, schema) as writer:
        for rows in result.mappings().partitions(source.chunk_rows):
            writer.write_table(
                pa.table(
                    {name: [_text(row[name]) for row in rows] for name in names}, schema=schema
                )
            )


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value.isoformat() if isinstance(value, datetime.date) else str(value)
    return text.encode("utf-8", errors="backslashreplace").decode()


def _wanted_columns(
    names: list[str], name: str, source: SourceConfig
) -> tuple[str, str, str, str | None, str | None]:
    wanted = [
        source.user_column,
        source.item_column,
        source.rating_column,
        *([source.side_column] if source.side_column else []),
    ]
    missing = [column for column in wanted if column not in names]
    if missing:
        raise InputError(
            f"{name}: expected the column(s) {', '.join(missing)}, got {names}. Check source.*_column."
        )
    time = source.time_column if source.time_column in names else None
    return (
        source.user_column,
        source.item_column,
        source.rating_column,
        time,
        source.side_column or None,
    )


def _raw_rows(
    batch: Any, columns: tuple[str, str, str, str | None, str | None], first_line: int
) -> RawRows:
    user, item, rating, time, side = (
        None if c is None else _strings(batch.column(c)) for c in columns
    )
    present = [column for column in (user, item, rating, time, side) if column is not None]
    return RawRows(
        user=user,
        item=item,
        rating=rating,
        time=time,
        side=side,
        line=np.arange(first_line, first_line + batch.num_rows, dtype=np.int64),
        raw=lambda i: "\t".join(column[i].as_py() for column in present),
    )


def _strings(column: Any) -> Any:
    """Return an Arrow column as strings, "" for null; a timestamp becomes epoch seconds."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        microseconds = pc.cast(pc.cast(column, pa.timestamp("us"), safe=False), pa.int64())
        column = pc.divide(pc.cast(microseconds, pa.float64()), 1e6)
    return pc.fill_null(pc.cast(column, pa.string()), "")
