"""Roles, databases and migrations.

`mf_writer` owns the warehouse's schema and is what the pipeline connects as; `mf_reader` sees the
published views and the look-up function and nothing else; `mf_console` reads what the console
shows, `mf_monitor` what a monitoring system asks for. Roles belong to the server, not to a
database, so they are made here and not in a migration.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import psycopg2
import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.util import CommandError
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection

from mf_core.errors import ConfigError, DatabaseError
from mf_core.warehouse import revisions
from mf_core.warehouse.engine import (
    database_engine,
    limit_lock_waits,
    lock_schema,
    psycopg2_cursor,
    transaction,
    translated_errors,
)
from mf_core.warehouse.tables import SCHEMA

WRITER = "mf_writer"
READER = "mf_reader"
CONSOLE = "mf_console"
MONITOR = "mf_monitor"
# In this order: the monitoring's views read from the readers'.
_VIEWS = tuple(Path(__file__).parent / name for name in ("readers.sql", "monitoring.sql"))

# Postgres looks for a deadlock after a wait of a second (deadlock_timeout).
_READERS_WAIT = timedelta(milliseconds=500)
_READERS_PAUSE_SECONDS = 1.0
_READERS_ATTEMPTS = 20

# What an ingest locks first of all as well.
_WAIT_FOR_INGEST = "LOCK TABLE mf.ingest_batches IN SHARE ROW EXCLUSIVE MODE"

# The template without a locale of its own, so that UTF8 is possible on every server.
_CREATE_DATABASE = "CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0"
_FIND_DATABASE = "SELECT 1 FROM pg_database WHERE datname = :name"
_FIND_ROLE = "SELECT 1 FROM pg_roles WHERE rolname = :role"
_FIND_ROLES = "SELECT rolname FROM pg_roles WHERE rolname IN ('mf_writer', 'mf_reader')"


def create_database(
    admin_url: str, database: str, owner: str, owner_password: str | None = None
) -> None:
    """Create `database` and its login role `owner` where they are missing.

    Every other role is kept out of the database.

    Raises:
        DatabaseError: the server can't be reached.
    """
    with _administer(admin_url) as connection:
        _ensure_role(connection, owner, owner_password)

        # An admin who is no superuser may give a database only to a role that he is a member of.
        _execute(connection, "GRANT {} TO CURRENT_USER", owner)
        if not connection.scalar(sa.text(_FIND_DATABASE), {"name": database}):
            _execute(connection, _CREATE_DATABASE, database, owner)

        # Postgres lets every role connect to a new database.
        _execute(connection, "REVOKE ALL ON DATABASE {} FROM PUBLIC", database)


def bootstrap_warehouse(
    admin_url: str,
    database: str = "warehouse",
    writer_password: str | None = None,
    reader_password: str | None = None,
    console_password: str | None = None,
    *,
    monitor_password: str | None = None,
) -> None:
    """Create the warehouse's database and roles; repeatable.

    Args:
        admin_url: URL of a superuser, or of a managed server's admin.
        database: name of the warehouse's database.
        writer_password: password of `mf_writer`; None: as it is.
        reader_password: password of `mf_reader`; None: as it is.
        console_password: password of `mf_console`; None: as it is.
        monitor_password: password of `mf_monitor`; None: as it is.

    Raises:
        DatabaseError: the server can't be reached.
    """
    create_database(admin_url, database, WRITER, writer_password)
    with _administer(admin_url) as connection:
        passwords = {
            READER: reader_password,
            CONSOLE: console_password,
            MONITOR: monitor_password,
        }
        for role, password in passwords.items():
            _ensure_role(connection, role, password)
            _execute(connection, "GRANT CONNECT ON DATABASE {} TO {}", database, role)
        # Retiring a version asks for the age of other sessions' transactions.
        _execute(connection, "GRANT pg_read_all_stats TO {}", WRITER)


def migrate(url: str, revision: str = "head") -> None:
    """Bring the warehouse's schema to `revision`, up or down (`base` empties it).

    `url` must connect as `mf_writer`. One at a time: a second one waits for the first. With
    something to migrate, it waits for an ingest as well, so that neither locks the other out.

    Raises:
        ConfigError: the roles are missing, the role is another one, or there is no such revision.
        DatabaseError: the server can't be reached, the schema is newer than this code, or another
            session is in the way.
    """
    _make_schema(url)
    with _connected(url) as connection:
        lock_schema(connection, SCHEMA)
        present = _known_revision(connection)
        nothing_to_do = revision == "head" and present == revisions.known()[0]
        if present is not None and not nothing_to_do:
            connection.execute(sa.text(_WAIT_FOR_INGEST))
        config = alembic_config(connection)
        try:
            if _is_older(revision, present):
                command.downgrade(config, revision)
            else:
                command.upgrade(config, revision)
        except CommandError as error:
            raise ConfigError(
                f"the schema can't be brought to revision {revision}: {error}. "
                f"Expected head, base, or one of {', '.join(sorted(revisions.known()))}."
            ) from error
        if revision == "head":
            replace_readers_objects(connection)


def _make_schema(url: str) -> None:
    """Make the empty schema, on which migrations that run at once then wait for each other."""
    # The same name twice: another one makes it at this moment.
    with suppress(sa.exc.IntegrityError), _connected(url) as connection:
        _require_roles(connection)
        connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))


def _is_older(revision: str, present: str | None) -> bool:
    """Say whether `revision` comes before the one that the schema is at."""
    known = revisions.known()
    if present is None or revision not in known:
        return revision == "base"
    return known.index(revision) > known.index(present)


def _known_revision(connection: Connection) -> str | None:
    """Return the revision that the schema is at. Raises DatabaseError if this code is older."""
    present = revisions.present(connection)
    if present is not None and present not in revisions.known():
        raise DatabaseError(str(revisions.difference(connection)))
    return present


def replace_readers_objects(connection: Connection) -> None:
    """Make views, functions, comments and grants what `readers.sql` and `monitoring.sql` say.

    Whoever reads waits while this waits. So it gives up soon, lets them pass and tries again; and
    it never waits for so long that Postgres looks for a deadlock, whose victim may be a reader.

    Raises:
        DatabaseError: a reader's transaction has been in the way all the time.
    """
    for _ in range(_READERS_ATTEMPTS):
        try:
            with connection.begin_nested():
                _run_readers_sql(connection)
            return
        except psycopg2.errors.LockNotAvailable:
            time.sleep(_READERS_PAUSE_SECONDS)
    raise DatabaseError(
        "the readers' views could not be replaced: a transaction that reads mf.recommendations or "
        "mf.model_history does not end (SQLSTATE 55P03). Nothing was changed. End that "
        "transaction, or run `mf db migrate` when it has ended; see docs/runbook.md#locks."
    )


def _run_readers_sql(connection: Connection) -> None:
    limit_lock_waits(connection, _READERS_WAIT)
    with psycopg2_cursor(connection) as cursor:
        for file in _VIEWS:
            cursor.execute(file.read_text(encoding="utf-8"))
    limit_lock_waits(connection)


def alembic_config(connection: Connection) -> AlembicConfig:
    """Return the Alembic configuration that runs the migrations on `connection`."""
    config = AlembicConfig()
    # ConfigParser, which Alembic reads it with, takes a single percent sign for a reference.
    script_location = str(revisions.MIGRATIONS).replace("%", "%%")
    config.set_main_option("script_location", script_location)
    config.attributes["connection"] = connection
    return config


def _require_roles(connection: Connection) -> None:
    """Raise ConfigError if the server lacks a role that the migrations grant rights to."""
    found = set(connection.scalars(sa.text(_FIND_ROLES)))
    missing = {WRITER, READER} - found
    if missing:
        raise ConfigError(
            f"the Postgres server lacks the role(s) {', '.join(sorted(missing))}; "
            "an administrator makes them once with `mf db bootstrap --admin-url ...` "
            "(docs/runbook.md#roles)."
        )


@contextmanager
def _connected(url: str, isolation_level: str | None = None) -> Iterator[Connection]:
    """Open one transaction on a connection of its own and leave none behind."""
    engine = database_engine(url)
    try:
        with transaction(engine, isolation_level=isolation_level) as connection:
            yield connection
    finally:
        engine.dispose()


def _administer(admin_url: str) -> AbstractContextManager[Connection]:
    """Return a context with an autocommit connection: CREATE DATABASE runs in no transaction."""
    return _connected(admin_url, "AUTOCOMMIT")


def _ensure_role(connection: Connection, role: str, password: str | None) -> None:
    """Create the login role where it is missing; set its password if one is given."""
    if not connection.scalar(sa.text(_FIND_ROLE), {"role": role}):
        _execute(connection, "CREATE ROLE {} LOGIN", role)

    if password is not None:
        template = pg.SQL("ALTER ROLE {} PASSWORD {}")
        statement = template.format(pg.Identifier(role), pg.Literal(password))
        _run(connection, statement)


def _execute(connection: Connection, template: str, *identifiers: str) -> None:
    """Run a statement whose placeholders stand for identifiers."""
    quoted = [pg.Identifier(identifier) for identifier in identifiers]
    _run(connection, pg.SQL(template).format(*quoted))


def _run(connection: Connection, statement: pg.Composable) -> None:
    """Run a statement that takes no bound parameters, on a cursor of the driver itself."""
    with translated_errors(), psycopg2_cursor(connection) as cursor:
        cursor.execute(statement)
