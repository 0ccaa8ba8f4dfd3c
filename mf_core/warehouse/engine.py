"""Connections to the warehouse: SQLAlchemy 2 over psycopg2, and COPY."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg2
import sqlalchemy as sa
from psycopg2 import sql as pg
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from mf_core.catalogue import DEFAULT, Catalogue
from mf_core.errors import ConfigError, DatabaseError
from mf_core.warehouse import roles as role_names
from mf_core.warehouse import schema
from mf_core.warehouse.address import VARIABLE
from mf_core.warehouse.problems import explain
from mf_core.warehouse.roles import Roles
from mf_core.warehouse.schema import psycopg2_cursor

LOCK_TIMEOUT = timedelta(seconds=30)
"""How long a statement waits for a lock, unless its transaction says otherwise."""

# Whoever only asks something must not wait for these: a console page, a DAG file that is parsed.
if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_CONNECT_SECONDS = 10
# Between two pieces Python's lock is asked for, which a thread that reads ahead may hold.
_COPY_BYTES = 1 << 20
_AUTOCOMMIT = "AUTOCOMMIT"
_EXPECTED = "expected postgresql+psycopg2://USER:PASSWORD@HOST:PORT/DATABASE"


def database_engine(
    url: str,
    *,
    catalogue: Catalogue = DEFAULT,
    roles: Roles | None = None,
    connect_args: Mapping[str, Any] | None = None,
    **options: Any,
) -> Engine:
    """Return an engine for a Postgres URL: `postgres://`, `postgresql://`, or with `+psycopg2`.

    Args:
        url: the URL.
        catalogue: whose schema the statements work on.
        roles: the names of its roles; None: as `Roles.in_force` finds them.
        connect_args: parameters of libpq, over those that are set here.
        options: more arguments of `sqlalchemy.create_engine`.

    Raises:
        ConfigError: the URL can't be read, or names another database than Postgres.
    """
    # The pool may hold connections that the server has closed meanwhile: each is tried before use.
    parameters = {"connect_timeout": _CONNECT_SECONDS, "application_name": "mf"}
    return sa.create_engine(
        _parsed(url, catalogue.variable(VARIABLE)).set(drivername="postgresql+psycopg2"),
        pool_pre_ping=True,
        connect_args={**parameters, **(connect_args or {})},
        execution_options=schema.options(catalogue) | role_names.options(roles),
        **options,
    )


def _parsed(url: str, variable: str) -> URL:
    """Return the parts of a URL. Raises ConfigError, which does not quote it: it has a password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # A port that is no number is a ValueError.
        raise ConfigError(f"{variable} can't be read; {_EXPECTED}.") from None

    if parsed.drivername.split("+")[0] not in ("postgres", "postgresql"):
        raise ConfigError(
            f"{variable} names {parsed.drivername}, "
            "expected a Postgres database (postgresql+psycopg2://...). Correct the URL."
        )
    if parsed.port is not None and not 0 < parsed.port < 65_536:
        raise ConfigError(
            f"{variable} names port {parsed.port}, expected one from 1 to 65535. Correct the URL."
        )
    return parsed


@contextmanager
def transaction(
    engine: Engine,
    *,
    isolation_level: str | None = None,
    lock_timeout: timedelta | None = None,
) -> Iterator[Connection]:
    """Open a transaction that commits at the end of the block and rolls back on an error.

    With the isolation level AUTOCOMMIT every statement is one of its own, on a connection that is
    closed afterwards. It waits for locks as long as the server lets it: see `cancelled_after`.

    Args:
        engine: the warehouse.
        isolation_level: as Postgres names it; None: READ COMMITTED.
        lock_timeout: how long a statement may wait for a lock; None: LOCK_TIMEOUT.

    Raises:
        DatabaseError: Postgres could not be reached, broke off, or did not give a lock in time; or
            the schema is not the one that this code needs.
        ConfigError: the role lacks a right.
        ValueError: a lock_timeout with AUTOCOMMIT, where nothing would keep it.
    """
    if isolation_level == _AUTOCOMMIT and lock_timeout is not None:
        raise ValueError("AUTOCOMMIT has no lock_timeout; expected a block of cancelled_after")
    with translated_errors(engine), engine.connect() as connection:
        # SQLAlchemy's own option for a level sets, and resets, the default of the session.
        if isolation_level == _AUTOCOMMIT:
            connection.detach()
            _driver_connection(connection).autocommit = True
        with connection.begin():
            if isolation_level != _AUTOCOMMIT:
                if isolation_level:
                    connection.exec_driver_sql(f"SET TRANSACTION ISOLATION LEVEL {isolation_level}")
                limit_lock_waits(connection, lock_timeout)
            yield connection


def limit_lock_waits(connection: Connection, at_most: timedelta | None = None) -> None:
    """Let no later statement of this transaction wait longer than that for a lock.

    None stands for LOCK_TIMEOUT. The setting ends with the transaction, since a pooler may give the
    session to somebody else then.
    """
    milliseconds = round((at_most or LOCK_TIMEOUT) / timedelta(milliseconds=1))
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")


@contextmanager
def cancelled_after(connection: Connection, at_most: timedelta) -> Iterator[None]:
    """Have the server cancel the block's statement if it takes longer.

    For what runs in no transaction: a setting of the session would stay with it when a pooler hands
    the session on, and need not be there at the next statement. The error is that of a cancelled
    statement (SQLSTATE 57014).
    """
    driver_connection = _driver_connection(connection)

    def cancel() -> None:
        """Ask the server to."""
        # A connection that is lost has nothing to cancel; the statement says what happened.
        with suppress(psycopg2.Error):
            driver_connection.cancel()

    timer = threading.Timer(at_most.total_seconds(), cancel)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        # One that is under way must not meet the next statement.
        timer.join()


def _driver_connection(connection: Connection) -> Any:
    """Return psycopg2's own connection, of one that is detached from its pool too."""
    return connection.connection.dbapi_connection


@contextmanager
def translated_errors(bind: Engine | Connection) -> Iterator[None]:
    """Turn what Postgres says into the project's errors, as far as they are known.

    With an engine the revision of the schema is looked up where it may be the reason. On a
    connection that has just met an error, that is not possible.

    Raises:
        DatabaseError: what failed may work in a while, or after a migration.
        ConfigError: the role lacks a right, or the URL can't be used.
    """
    try:
        yield
    except DBAPIError as error:
        known = explain(error.orig, error.statement, bind=bind, lost=error.connection_invalidated)
        if known is None:
            raise
        raise known from error
    except psycopg2.Error as error:
        # From a cursor of the driver's own, whose errors SQLAlchemy does not see.
        known = explain(error, None, bind=bind)
        if known is None:
            raise
        raise known from error


def lock_schema(connection: Connection, name: str) -> None:
    """Keep other transactions from taking this lock on a schema until this one ends.

    To comment on a schema takes a lock that only its owner may take, and that nothing else waits
    for. An advisory lock could be taken by any role that knows its number.
    """
    as_it_is = sa.text("SELECT obj_description(to_regnamespace(:name), 'pg_namespace')")
    comment = connection.scalar(as_it_is, {"name": name})
    statement = pg.SQL("COMMENT ON SCHEMA {} IS {}").format(
        pg.Identifier(name), pg.Literal(comment)
    )
    try:
        with psycopg2_cursor(connection) as cursor:
            cursor.execute(statement)
    except psycopg2.errors.LockNotAvailable as error:
        raise DatabaseError(
            f"another session works on the schema {name}, such as `mf db migrate`, and did not end "
            "within lock_timeout (SQLSTATE 55P03). Run this again when it has ended; "
            "see docs/runbook.md#locks."
        ) from error


def copy_table(connection: Connection, name: tuple[str, ...], table: "pa.Table") -> None:
    """COPY an Arrow table into a table, columns by name; null becomes NULL.

    Args:
        connection: with an open transaction.
        name: the parts of the table's identifier, such as ("mf", "ratings").
        table: what is written.

    Raises:
        DatabaseError: Postgres broke off.
    """
    copy_csv(connection, name, table.column_names, csv_text(table))


def csv_text(table: "pa.Table") -> "pa.Buffer":
    """Return an Arrow table as COPY takes it."""
    import pyarrow as pa
    import pyarrow.csv as pacsv

    sink = pa.BufferOutputStream()
    # Every string comes out quoted, so that an empty one, '\N' or '\.' stays what it is.
    pacsv.write_csv(table, sink, pacsv.WriteOptions(include_header=False, quoting_style="needed"))
    return sink.getvalue()


def copy_csv(
    connection: Connection, name: tuple[str, ...], columns: Sequence[str], text: "pa.Buffer"
) -> None:
    """COPY what `csv_text` returned into the `columns` of a table; raises as `copy_table` does."""
    import pyarrow as pa

    identifiers = [pg.Identifier(column) for column in columns]
    statement = pg.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        pg.Identifier(*name), pg.SQL(", ").join(identifiers)
    )
    with translated_errors(connection), psycopg2_cursor(connection) as cursor:
        cursor.copy_expert(statement, pa.BufferReader(text), _COPY_BYTES)


def copy_frame(connection: Connection, name: tuple[str, ...], frame: "pd.DataFrame") -> None:
    """COPY a data frame as `copy_table` does; a missing text becomes NULL, a NaN stays one."""
    import pyarrow as pa

    columns = {}
    for label, column in frame.items():
        # Arrow takes a NaN for missing unless it is told not to.
        is_float = column.dtype.kind == "f"
        columns[str(label)] = pa.array(column.to_numpy(), from_pandas=not is_float)
    copy_table(connection, name, pa.table(columns))
