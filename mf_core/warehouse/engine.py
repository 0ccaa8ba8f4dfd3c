"""Connections to the warehouse: SQLAlchemy 2 over psycopg2, and COPY."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd
import psycopg2
import pyarrow as pa
import pyarrow.csv as pacsv
import sqlalchemy as sa
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from mf_core.errors import ConfigError, DatabaseError

_CONNECT_SECONDS = 10
# SQLSTATE classes: connection exception, transaction rollback, insufficient resources, operator
# intervention.
_MAY_PASS = ("08", "40", "53", "57")


def database_engine(
    url: str, *, connect_args: Mapping[str, Any] | None = None, **options: Any
) -> Engine:
    """Return an engine for a Postgres URL: `postgres://`, `postgresql://`, or with `+psycopg2`.

    Args:
        url: the URL.
        connect_args: parameters of libpq, over those that are set here.
        options: more arguments of `sqlalchemy.create_engine`.

    Raises:
        ConfigError: the URL can't be read, or names another database than Postgres.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(
            "MF_DATABASE_URL can't be read; "
            "expected postgresql+psycopg2://USER:PASSWORD@HOST:PORT/DATABASE."
        ) from None

    if parsed.drivername.split("+")[0] not in ("postgres", "postgresql"):
        raise ConfigError(
            f"MF_DATABASE_URL names {parsed.drivername}, "
            "expected a Postgres database (postgresql+psycopg2://...). Correct the URL."
        )

    # The pool may hold connections that the server has closed meanwhile: each is tried before use.
    parameters = {"connect_timeout": _CONNECT_SECONDS, "application_name": "mf"}
    return sa.create_engine(
        parsed.set(drivername="postgresql+psycopg2"),
        pool_pre_ping=True,
        connect_args={**parameters, **(connect_args or {})},
        **options,
    )


@contextmanager
def transaction(engine: Engine, *, isolation_level: str | None = None) -> Iterator[Connection]:
    """Open a transaction that commits at the end of the block and rolls back on an error.

    Raises:
        DatabaseError: Postgres could not be reached, or broke off; a retry may help.
    """
    target = engine
    if isolation_level:
        target = engine.execution_options(isolation_level=isolation_level)
    with translated_errors(), target.begin() as connection:
        yield connection


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn a lost connection, a deadlock or a serialization failure into `DatabaseError`.

    Raises:
        DatabaseError: what failed may work in a while.
    """
    try:
        yield
    except DBAPIError as error:
        # A server that was not reached gives no code.
        code = getattr(error.orig, "pgcode", None) or ""
        never_answered = isinstance(error, sa.exc.OperationalError) and not code
        if never_answered or error.connection_invalidated or code.startswith(_MAY_PASS):
            raise _broken_off(error.orig) from error
        raise
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        # From a cursor of the driver's own, whose errors SQLAlchemy does not see.
        raise _broken_off(error) from error


def _broken_off(error: BaseException | None) -> DatabaseError:
    """Return the error with the first line of what the driver says."""
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    return DatabaseError(
        f"Postgres did not answer as expected: {reason}. "
        "Check MF_DATABASE_URL, the server and its disk."
    )


def copy_table(connection: Connection, name: tuple[str, ...], table: pa.Table) -> None:
    """COPY an Arrow table into a table, columns by name; null becomes NULL.

    Args:
        connection: with an open transaction.
        name: the parts of the table's identifier, such as ("mf", "ratings").
        table: what is written.

    Raises:
        DatabaseError: Postgres broke off.
    """
    sink = pa.BufferOutputStream()
    # Every string comes out quoted, so that an empty one, '\N' or '\.' stays what it is.
    pacsv.write_csv(table, sink, pacsv.WriteOptions(include_header=False, quoting_style="needed"))

    columns = [pg.Identifier(column) for column in table.column_names]
    statement = pg.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        pg.Identifier(*name), pg.SQL(", ").join(columns)
    )
    with translated_errors(), psycopg2_cursor(connection) as cursor:
        cursor.copy_expert(statement, pa.BufferReader(sink.getvalue()))


def copy_frame(connection: Connection, name: tuple[str, ...], frame: pd.DataFrame) -> None:
    """COPY a data frame as `copy_table` does; a missing text becomes NULL, a NaN stays one."""
    columns = {}
    for label, column in frame.items():
        # Arrow takes a NaN for missing unless it is told not to.
        is_float = column.dtype.kind == "f"
        columns[str(label)] = pa.array(column.to_numpy(), from_pandas=not is_float)
    copy_table(connection, name, pa.table(columns))


def psycopg2_cursor(connection: Connection) -> Any:
    """Return a cursor of the driver itself.

    COPY needs one, and so do statements that take no bound parameters.
    """
    return connection.connection.cursor()
