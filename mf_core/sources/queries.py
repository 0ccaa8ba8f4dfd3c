"""Ratings from a query on another database, which may read and nothing else.

Postgres itself makes sure of that: the query is bound as a value and opened as a cursor in a READ
ONLY transaction that has begun to read. A cursor takes one statement that returns rows, and such a
transaction can't be made to write any more, whatever the statement calls. SQLite's own authorizer
allows reading only. Other databases have no such way that is common to them: there nothing is
committed, and only the operator may name the query.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from mf_core.config import Kind, SourceConfig
from mf_core.errors import ConfigError, DatabaseError, InputError
from mf_core.redaction import without_secrets
from mf_core.sources.plain_values import PSYCOPG2, give_plain_values
from mf_core.sources.reach import Reach
from mf_core.sources.results import Portion, write_rows
from mf_core.sources.spool import SilentError, Spool, within
from mf_core.sources.watermarks import HighWater, lower_bound
from mf_core.warehouse.address import sqlalchemy_url

POSTGRES = "postgresql"
SQLITE = "sqlite"
_CHECKED_BY_SERVER = (POSTGRES, SQLITE)
# How much longer than the server is waited for: it ends the query itself, where it is alive.
_GRACE_SECONDS = 30.0
_CONNECT_SECONDS = 30.0
_SQLITE_STEPS = 10_000
_SQLITE_READS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}

# The value is bound, so that no part of the query can end this statement and begin another. It is
# also the first statement that reads: from here on, the transaction can't be made to write.
_HAND_OVER = "SELECT set_config('mf_source.query', :query, true)"
# `refcursor` names the cursor, which lives as long as the transaction.
_OPEN = """
DO $$
DECLARE
    rows refcursor := 'mf_rows';
BEGIN
    OPEN rows NO SCROLL FOR EXECUTE current_setting('mf_source.query');
END
$$
"""
_IS_SUPERUSER = "SELECT current_setting('is_superuser') = 'on'"
_LIMIT = "SELECT set_config('statement_timeout', :milliseconds, true)"
_FETCH = "FETCH FORWARD {:d} FROM mf_rows"


@dataclass(frozen=True)
class Database:
    """Another database.

    Attributes:
        url: its SQLAlchemy URL.
        said_by: what names it, for messages.
        query_is_operators: the query is the operator's, not a trigger's.
    """

    url: str
    said_by: str
    query_is_operators: bool


def find_database(source: SourceConfig, environ: Mapping[str, str], reach: Reach) -> Database:
    """Return the database that `source.query` runs on.

    Raises:
        InputError: none is named, or there is no query.
        ConfigError: it is beyond what a trigger may reach, or there is no such connection.
    """
    operators = reach.judge_query(source)
    variable = f"the environment variable {source.database_url_env}"
    if source.connection:
        said_by = f"the Airflow connection {source.connection!r}"
        url = _of_connection(source.connection, reach)
    else:
        said_by = source.database_url_env
        url = environ.get(source.database_url_env, "")

    if not url or not source.query.strip():
        missing = "source.query" if url else variable
        raise InputError(
            f"expected a query on another database (source.uri = sql), but {missing} is empty. "
            "Set it."
        )
    return Database(url, said_by, operators)


def _of_connection(connection_id: str, reach: Reach) -> str:
    if reach.find_connection is None:
        raise ConfigError(
            "source.connection names an Airflow connection, and this is not Airflow; name the "
            "environment variable that holds the URL in source.database_url_env instead."
        )
    uri = reach.find_connection(connection_id)
    if uri is None or not uri.startswith("postgres"):
        found = "there is none" if uri is None else "it is of another type"
        raise ConfigError(
            f"source.connection = {connection_id!r:.100}: expected an Airflow connection to "
            f"Postgres, but {found}. Make it, given as a URI (postgres://...)."
        )
    return sqlalchemy_url(uri, connection_id)


def place_of(database: Database, source: SourceConfig) -> str:
    """Return what tells the query from others, and from the same on another database.

    Its password is no part of it.
    """
    try:
        url = make_url(database.url)
    except ArgumentError:
        # Who asks the database will say so.
        return ""
    where = [url.drivername, url.host, url.port, url.database, url.username, source.query]
    return f"sql {hashlib.sha256(json.dumps(where).encode()).hexdigest()}"


def spool_query(
    database: Database,
    source: SourceConfig,
    spool: Spool,
    path: Path,
    kind: Kind = "ratings",
    *,
    since: str | None = None,
) -> str | None:
    """Write the wanted columns of `source.query` to the Parquet file `path`, as text.

    Args:
        database: where it is run.
        source: the query, and what its columns are called.
        spool: says how long it may take, and counts what is written.
        path: the file.
        kind: what the rows are.
        since: the watermark from which on rows are wanted; None: all are.

    Returns:
        The largest value of `source.watermark_column`, None without one.

    Raises:
        InputError: the query is wrong, tries to write, took too long or gave too much, or a column
            is not in the result.
        DatabaseError: the other database can't be reached.
        ScratchFullError: the temporary folder is full.
    """
    if "\0" in source.query:
        raise InputError("source.query holds a NUL character, which SQL can't. Correct the query.")
    try:
        engine = _engine(database)
        with _connected(engine, spool) as connection:
            _refuse_superuser(connection, database)
            query = _rows_since(connection, source, since)
            portions = _portions(connection, query, source, spool)
            high_water = _high_water(connection, source)
            write_rows(portions, source, kind, spool=spool, path=path, high_water=high_water)
            return None if high_water is None else high_water.result()
    except (ArgumentError, NoSuchModuleError, ImportError):
        # The message would show the URL, and with it the password.
        raise InputError(
            f"{database.said_by} can't be used; "
            "expected a SQLAlchemy URL whose driver is installed."
        ) from None
    except SilentError:
        raise DatabaseError(
            f"the source database did not answer in time. Check {database.said_by}."
        ) from None
    except SQLAlchemyError as error:
        _raise_for(error, database)
    except ValueError as error:
        # A driver makes its own values of what the database gives.
        raise InputError(
            f"source.query gave a value that can't be read: {without_secrets(str(error))}. "
            "Cast its column to text in the query."
        ) from None


def _rows_since(connection: Connection, source: SourceConfig, since: str | None) -> str:
    """Return the query for the rows since a watermark, and for those that have no value."""
    if since is None:
        return source.query
    column = _quoted(connection, source.watermark_column)
    bound = lower_bound(since, source.watermark_overlap)
    # The query may end with a comment.
    query = source.query.strip().rstrip(";")
    return f"SELECT * FROM (\n{query}\n) AS mf_rows WHERE {column} >= {bound} OR {column} IS NULL"


def _quoted(connection: Connection, name: str) -> str:
    """Return an identifier in the quotes of the database.

    SQLAlchemy's own way doubles percent signs, which drivers halve where values are bound.
    """
    preparer = connection.dialect.identifier_preparer
    end = preparer.final_quote
    return f"{preparer.initial_quote}{name.replace(end, end * 2)}{end}"


def _high_water(connection: Connection, source: SourceConfig) -> HighWater | None:
    """Return what finds the watermark of the rows that are about to be read."""
    if not source.watermark_column:
        return None
    given_as_written = connection.dialect.driver == PSYCOPG2
    return HighWater(
        source.watermark_column, datetime.now(UTC), texts_are_text=not given_as_written
    )


def _engine(database: Database) -> sa.Engine:
    """Return an engine whose transactions only read, where the database knows such ones."""
    url = make_url(database.url)
    if url.host and any(mark in url.host for mark in "@/#?"):
        # What was taken for the host is a part of the password; a message would show it.
        raise ArgumentError("the password is not percent-encoded")
    name = url.get_backend_name()
    if name not in _CHECKED_BY_SERVER and not database.query_is_operators:
        raise ConfigError(
            f"source.query of a trigger runs on Postgres only, got {name}: no other database "
            "makes sure by itself that it only reads."
        )
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    if name == POSTGRES:
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine


@contextmanager
def _connected(engine: sa.Engine, spool: Spool) -> Iterator[Connection]:
    """Give a connection. Raises SilentError if the server does not answer in time."""
    # SQLite has no server to wait for, and its connections stay with their thread.
    if engine.dialect.name == SQLITE:
        connection = engine.connect()
    else:
        seconds = max(_CONNECT_SECONDS, spool.limits.stall_seconds)
        connection = within(seconds, engine.connect)
    with connection:
        if engine.dialect.driver == PSYCOPG2:
            give_plain_values(connection)
        yield connection


def _refuse_superuser(connection: Connection, database: Database) -> None:
    """Refuse a trigger's query in the name of a role that may read and write the server's files."""
    if database.query_is_operators or connection.dialect.name != POSTGRES:
        return
    if connection.scalar(sa.text(_IS_SUPERUSER)):
        raise ConfigError(
            f"{database.said_by}: expected a role that can only read, but this role is a "
            "superuser, who reaches the server's files. The operator changes the connection."
        )


def _portions(
    connection: Connection, query: str, source: SourceConfig, spool: Spool
) -> Iterator[Portion]:
    """Yield the result of the query: the columns' names, and so many rows at a time."""
    seconds = spool.limits.query_seconds
    if connection.dialect.name == POSTGRES:
        yield from _from_postgres(connection, query, source.chunk_rows, seconds)
        return

    if connection.dialect.name == SQLITE:
        _only_read_sqlite(connection, seconds)
    streamed = connection.execution_options(
        stream_results=True, yield_per=source.chunk_rows, no_parameters=True
    )
    # Nothing commits here, so a query that writes leaves no trace.
    result = streamed.exec_driver_sql(query)
    names = list(result.keys())
    for rows in result.partitions(source.chunk_rows):
        yield names, rows
    # A result without rows has columns too.
    yield names, ()


def _from_postgres(
    connection: Connection, query: str, chunk_rows: int, seconds: float
) -> Iterator[Portion]:
    """Yield the portions of a cursor, which the server has made sure only reads."""
    deadline = time.monotonic() + seconds

    def execute(statement: str, **values: Any) -> Any:
        """Execute a statement of ours, in the time that is left."""
        left = max(deadline - time.monotonic(), 0.001)
        # Before each: the query may have set another one by a function.
        limit = {"milliseconds": str(int(left * 1000) or 1)}
        connection.execute(sa.text(_LIMIT), limit)
        run = sa.text(statement).execution_options(autocommit=False)
        return within(left + _GRACE_SECONDS, lambda: connection.execute(run, values))

    execute(_HAND_OVER, query=query)
    execute(_OPEN)
    while True:
        result = execute(_FETCH.format(chunk_rows))
        names = list(result.keys())
        rows = result.all()
        yield names, rows
        if not rows:
            return


def _only_read_sqlite(connection: Connection, seconds: float) -> None:
    """Let SQLite refuse whatever is not reading, and end a query that takes too long."""
    driver: Any = connection.connection.driver_connection
    deadline = time.monotonic() + seconds

    def authorize(action: int, *_: Any) -> int:
        """Allow what reads."""
        return sqlite3.SQLITE_OK if action in _SQLITE_READS else sqlite3.SQLITE_DENY

    def is_late() -> bool:
        """Say whether the query is to be ended."""
        return time.monotonic() > deadline

    # Text that is no UTF-8 is one bad row.
    driver.text_factory = lambda raw: raw.decode(errors="surrogateescape")
    driver.set_authorizer(authorize)
    driver.set_progress_handler(is_late, _SQLITE_STEPS)


def _raise_for(error: SQLAlchemyError, database: Database) -> NoReturn:
    """Raise what an error of the other database means: it is away, or the query is wrong."""
    never_answered = isinstance(error, sa.exc.InterfaceError)
    refused_statement = False
    if isinstance(error, sa.exc.OperationalError):
        # SQLite calls a missing table operational as well; then the error names the statement.
        refused_statement = error.statement is not None
        never_answered = not refused_statement or error.connection_invalidated

    if never_answered:
        raise DatabaseError(
            f"the source database did not answer: {_reason(error)}. Check {database.said_by}."
        ) from None

    advice = "Correct the query." if refused_statement else "It must be one SELECT, which reads."
    raise InputError(
        f"source.query was refused by the source database: {_reason(error)}. {advice}"
    ) from None


def _reason(error: SQLAlchemyError) -> str:
    """Return the first line of the driver's message, which shows neither URL nor parameters."""
    original = getattr(error, "orig", None) or error
    lines = str(original).strip().splitlines()
    if not lines:
        return type(error).__name__
    return without_secrets(lines[0])
