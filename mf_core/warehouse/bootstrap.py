"""Roles, databases and migrations.

`mf_writer` owns the warehouse's schema and is what the pipeline connects as; `mf_reader` sees the published views and the
look-up function and nothing else. Roles belong to the server, not to a database, so they are made here and not in a
migration.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection

from mf_core.errors import ConfigError
from mf_core.warehouse.engine import (
    database_engine,
    psycopg2_cursor,
    transaction,
    translated_errors,
)
from mf_core.warehouse.tables import SCHEMA

WRITER, READER = "mf_writer", "mf_reader"
_MIGRATIONS = Path(__file__).parent / "migrations"
_READERS = Path(__file__).parent / "readers.sql"


def create_database(
    admin_url: str, database: str, owner: str, owner_password: str | None = None
) -> None:
    """Create `database` and its login role `owner` where they are missing, and keep every other role out of it.

    Raises:
        DatabaseError: the server can't be reached.
    """
    with _administer(admin_url) as connection:
        _ensure_role(connection, owner, owner_password)
        _execute(connection, "GRANT {} TO CURRENT_USER", owner)
        exists = connection.scalar(
            sa.text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": database}
        )
        if not exists:
            _execute(
                connection,
                "CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0",
                database,
                owner,
            )
        _execute(connection, "REVOKE ALL ON DATABASE {} FROM PUBLIC", database)


def bootstrap_warehouse(
    admin_url: str,
    database: str = "warehouse",
    writer_password: str | None = None,
    reader_password: str | None = None,
) -> None:
    """Create the warehouse's database and roles; repeatable. `admin_url` is a superuser's or a managed server's admin.

    Raises:
        DatabaseError: the server can't be reached.
    """
    create_database(admin_url, database, WRITER, writer_password)
    with _administer(admin_url) as connection:
        _ensure_role(connection, READER, reader_password)
        _execute(connection, "GRANT CONNECT ON DATABASE {} TO {}", database, READER)
        # Retiring a version asks for the age of other sessions' transactions, see mf_core/publish.py.
        _execute(connection, "GRANT pg_read_all_stats TO {}", WRITER)


def migrate(url: str, revision: str = "head") -> None:
    """Bring the warehouse's schema to `revision` (`base` empties it). `url` must connect as `mf_writer`.

    Raises:
        ConfigError: the roles are missing.
        DatabaseError: the server can't be reached.
    """
    with _connected(url) as connection:
        _require_roles(connection)
        connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
        config = alembic_config(connection)
        if revision == "base":
            command.downgrade(config, revision)
        else:
            command.upgrade(config, revision)
        if revision == "head":
            replace_readers_objects(connection)


def replace_readers_objects(connection: Connection) -> None:
    """Make the views, functions, comments and grants for readers what `readers.sql` says."""
    with translated_errors(), psycopg2_cursor(connection) as cursor:
        cursor.execute(_READERS.read_text(encoding="utf-8"))


def alembic_config(connection: Connection) -> AlembicConfig:
    """Return the Alembic configuration that runs the migrations on `connection`."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _require_roles(connection: Connection) -> None:
    found = set(
        connection.scalars(
            sa.text("SELECT rolname FROM pg_roles WHERE rolname IN ('mf_writer', 'mf_reader')")
        )
    )
    missing = {WRITER, READER} - found
    if missing:
        raise ConfigError(
            f"the Postgres server lacks the role(s) {', '.join(sorted(missing))}; an administrator makes them once with "
            "`mf db bootstrap --admin-url ...` (docs/runbook.md#roles)."
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
    if not connection.scalar(
        sa.text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}
    ):
        _execute(connection, "CREATE ROLE {} LOGIN", role)
    if password is not None:
        statement = pg.SQL("ALTER ROLE {} PASSWORD {}").format(
            pg.Identifier(role), pg.Literal(password)
        )
        _run(connection, statement)


def _execute(connection: Connection, template: str, *identifiers: str) -> None:
    _run(connection, pg.SQL(template).format(*map(pg.Identifier, identifiers)))


def _run(connection: Connection, statement: pg.Composable) -> None:
    with translated_errors(), psycopg2_cursor(connection) as cursor:
        cursor.execute(statement)
