"""Connections to the warehouse: SQLAlchemy 2 over psycopg2, and COPY."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
import sqlalchemy as sa
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from mf_core.errors import ConfigError, DatabaseError

_CONNECT_SECONDS = 10
# SQLSTATE classes: connection exception, transaction rollback, insufficient resources, operator intervention.
_MAY_PASS = ("08", "40", "53", "57")


def database_engine(url: str) -> Engine:
    """Return an engine for a Postgres URL (`postgres://`, `postgresql://` or `postgresql+psycopg2://`).

    Raises:
        ConfigError: the URL can't be read, or names another database than Postgres.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(
            "MF_DATABASE_URL can't be read; expected postgresql+psycopg2://USER:PASSWORD@HOST:PORT/DATABASE."
        ) from None
    if parsed.drivername.split("+")[0] not in ("postgres", "postgresql"):
        raise ConfigError(f"MF_DATABASE_URL names {parsed.drivername}; the warehouse is Postgres (postgresql+psycopg2://...).")
    return sa.create_engine(
        parsed.set(drivername="postgresql+psycopg2"),
        pool_pre_ping=True,
        connect_args={"connect_timeout": _CONNECT_SECONDS, "application_name": "mf"},
    )


@contextmanager
def transaction(engine: Engine, *, isolation_level: str | None = None) -> Iterator[Connection]:
    """Open a transaction that commits at the end of the block and rolls back on an error.

    Raises:
        DatabaseError: Postgres could not be reached, or broke off; a retry may help.
    """
    target = engine.execution_options(isolation_level=isolation_level) if isolation_level else engine
    with translated_errors(), target.begin() as connection:
        yield connection


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn a lost or refused connection, a deadlock or a serialization failure into `DatabaseError`."""
    try:
        yield
    except DBAPIError as error:
        code = getattr(error.orig, "pgcode", None) or ""
        never_answered = isinstance(error, sa.exc.OperationalError) and not code
        if never_answered or error.connection_invalidated or code.startswith(_MAY_PASS):
            reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
            raise DatabaseError(
                f"Postgres did not answer as expected: {reason}. Check MF_DATABASE_URL and the server."
            ) from error
        raise


def copy_frame(connection: Connection, table: Sequence[str], frame: pd.DataFrame) -> None:
    """COPY `frame` into the table named by the identifier parts `table`; columns go by name, missing values become NULL."""
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, header=False, na_rep="\\N")
    buffer.seek(0)
    statement = pg.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, NULL '\\N')").format(
        pg.Identifier(*table), pg.SQL(", ").join(map(pg.Identifier, frame.columns))
    )
    with psycopg2_cursor(connection) as cursor:
        cursor.copy_expert(statement.as_string(cursor), buffer)


def psycopg2_cursor(connection: Connection) -> Any:
    """Return a cursor of the driver itself, for COPY and for statements that take no bound parameters."""
    return connection.connection.cursor()
