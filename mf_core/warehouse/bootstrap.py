"""Roles, databases and migrations.

`mf_writer` owns the warehouse's schema and is what the pipeline connects as; `mf_reader` sees the
published views and the look-up function and nothing else; `mf_console` reads what the console
shows, `mf_monitor` what a monitoring system collects. Each catalogue has its own (`roles.py`).
Roles belong to the server, not to a database, so they are made here and not in a migration.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import astuple, replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import psycopg2
import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from mf_core.catalogue import DEFAULT, Catalogue
from mf_core.errors import ConfigError, DatabaseError
from mf_core.warehouse import needs, revisions
from mf_core.warehouse.engine import (
    database_engine,
    limit_lock_waits,
    lock_schema,
    transaction,
)
from mf_core.warehouse.needs import DEFAULT_LIMITS, NO_LIMITS_NAMED, Need, ReaderLimits, Unmet
from mf_core.warehouse.roles import Roles, present_roles, roles_of, run_named
from mf_core.warehouse.schema import catalogue_of, make_schema, schema_of, sql

# In this order: the monitoring's views read from the readers'.
_NAMES = ("readers.sql", "look_ups.sql", "monitoring.sql")
_VIEWS = tuple(Path(__file__).parent / name for name in _NAMES)

# Postgres looks for a deadlock after a wait of a second (deadlock_timeout).
_READERS_WAIT = timedelta(milliseconds=500)
_READERS_PAUSE_SECONDS = 1.0
_READERS_ATTEMPTS = 20

_READERS_VIEWS = ("recommendations", "model_history")
# Postgres locks what a view reads from along with it.
_LOCK_READERS_VIEWS = "LOCK TABLE {mf}.recommendations, {mf}.model_history IN ACCESS EXCLUSIVE MODE"

# What an ingest locks first of all as well.
_WAIT_FOR_INGEST = "LOCK TABLE {mf}.ingest_batches IN SHARE ROW EXCLUSIVE MODE"


def create_database(
    admin_url: str, database: str, owner: str, owner_password: str | None = None
) -> Unmet:
    """Create `database` and its login role `owner` where they are missing.

    Every other role is kept out of the database.

    Returns:
        What this administrator may not do.

    Raises:
        ConfigError: something is missing that this administrator may not make.
        DatabaseError: the server can't be reached.
    """
    with _administer(admin_url) as connection:
        of_owner = needs.role(owner, owner_password)
        of_database = [
            needs.acting_for(owner),
            needs.database(database, owner),
            needs.closed(database),
        ]
        return _meet(connection, [*of_owner, *of_database], DEFAULT)


def bootstrap_warehouse(
    admin_url: str,
    database: str = "warehouse",
    *,
    catalogue: Catalogue = DEFAULT,
    roles: Roles | None = None,
    passwords: Mapping[str, str] = MappingProxyType({}),
    limits: ReaderLimits = NO_LIMITS_NAMED,
) -> Unmet:
    """Create the database and the roles of a catalogue's warehouse; repeatable.

    Args:
        admin_url: URL of a superuser, of a managed server's admin, or of anybody else: what is
            there already needs no right.
        database: name of the warehouse's database; several catalogues can share it.
        catalogue: whose roles are made.
        roles: their names; None: as `Roles.in_force` finds them.
        passwords: by field of `Roles`; the password of a role that is not in it stays as it is.
        limits: of the reader.

    Returns:
        What this administrator may not do, and what works without; and which roles there are.

    Raises:
        ConfigError: the environment names what can't be a role, or something is missing that this
            administrator may not make. The message has the SQL for somebody who may.
        DatabaseError: the server can't be reached.
    """
    roles = roles or Roles.in_force(catalogue)
    wanted = [
        *needs.role(roles.writer, passwords.get("writer")),
        *needs.role(
            roles.reader, passwords.get("reader"), connections=DEFAULT_LIMITS.connections or -1
        ),
        *needs.role(
            roles.console, passwords.get("console"), "the console reads as the pipeline does"
        ),
        *needs.role(roles.monitor, passwords.get("monitor"), "monitoring has no role of its own"),
        needs.acting_for(roles.writer),
        needs.database(database, roles.writer),
        *needs.rights(database, roles),
        needs.closed(database),
        *needs.limits(database, roles.reader, limits),
    ]
    with _administer(admin_url) as connection:
        unmet = _meet(connection, wanted, catalogue)
        elsewhere = needs.closing_others(connection, database)
        present = present_roles(connection, roles)
    made = [name for name in astuple(roles) if name in present]
    return replace(unmet, elsewhere=elsewhere, roles=made)


def _meet(connection: Connection, wanted: Sequence[Need], catalogue: Catalogue) -> Unmet:
    """Meet needs as far as that is allowed. Raises ConfigError if what all rests on is missing."""
    unmet = needs.meet(connection, wanted)
    if unmet.needed:
        command = catalogue.command("db bootstrap")
        raise ConfigError(
            f"the server lacks {', '.join(unmet.needed)}, and the role "
            f"{connection.engine.url.username} may not make that. "
            f"Run `{command}` as an administrator (--admin-url) who may, or have one run this "
            f"and then try again (docs/howto/managed-postgres.md):\n{unmet.script()}"
        )
    return unmet


def migrate(
    url: str,
    revision: str = "head",
    *,
    catalogue: Catalogue = DEFAULT,
    roles: Roles | None = None,
) -> None:
    """Bring a catalogue's schema to `revision`, up or down (`base` empties it).

    `url` must connect as the catalogue's writer. One at a time: a second one waits for the first.
    With something to migrate, it waits for an ingest as well, so that neither locks the other out;
    and readers wait for it.

    Raises:
        ConfigError: the roles are missing, the role is another one, or there is no such revision.
        DatabaseError: the server can't be reached, the schema is newer than this code, or another
            session is in the way.
    """
    _make_schema(url, catalogue, roles)
    if revision != "head":
        _prepare_to_go_back(url, revision, catalogue, roles)
    with _connected(url, catalogue=catalogue, roles=roles) as connection:
        lock_schema(connection, catalogue.schema)
        present = _known_revision(connection)
        nothing_to_do = revision == "head" and present == revisions.known()[0]
        if present is not None and not nothing_to_do:
            connection.execute(sql(connection, _WAIT_FOR_INGEST))
            _stop_readers(connection)
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


def _prepare_to_go_back(url: str, revision: str, catalogue: Catalogue, roles: Roles | None) -> None:
    """Do what must be done before older migrations are undone, in a transaction of its own."""
    with _connected(url, catalogue=catalogue, roles=roles) as connection:
        lock_schema(connection, catalogue.schema)
        present = _known_revision(connection)
        if present and _is_older(revision, present):
            for prepare in revisions.before_downgrade(present, revision):
                prepare(connection)


def _make_schema(url: str, catalogue: Catalogue, roles: Roles | None) -> None:
    """Make the empty schema, on which migrations that run at once then wait for each other."""
    # The same name twice: another one makes it at this moment.
    with (
        suppress(sa.exc.IntegrityError),
        _connected(url, catalogue=catalogue, roles=roles) as connection,
    ):
        _require_roles(connection)
        make_schema(connection, catalogue.schema)


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
    """Make views, functions, comments and grants what the SQL files of this package say.

    Raises:
        DatabaseError: a reader's transaction has been in the way all the time.
    """
    for file in _VIEWS:
        _run_between_readers(connection, file.read_text(encoding="utf-8"))


def _stop_readers(connection: Connection) -> None:
    """Let no reader's query begin from now on until this transaction ends.

    Before a migration changes a table that the views read from. A query takes its locks from the
    view down, so this does too: whoever locked a table first and wanted the view then would wait
    for a reader who waits for the table. Where there are no views yet, nobody reads.
    """
    views = [f"{schema_of(connection)}.{view}" for view in _READERS_VIEWS]
    found = connection.scalars(
        sa.text("SELECT name FROM unnest(:views) AS name WHERE to_regclass(name) IS NOT NULL"),
        {"views": views},
    )
    if len(found.all()) == len(views):
        _run_between_readers(connection, _LOCK_READERS_VIEWS)


def _run_between_readers(connection: Connection, template: str) -> None:
    """Run statements on what people read, whose queries wait while this waits.

    So it gives up soon, lets them pass and tries again; and it never waits for so long that
    Postgres looks for a deadlock, whose victim may be a reader.

    Raises:
        DatabaseError: a reader's transaction has been in the way all the time.
    """
    for _ in range(_READERS_ATTEMPTS):
        try:
            with connection.begin_nested():
                limit_lock_waits(connection, _READERS_WAIT)
                run_named(connection, template)
                limit_lock_waits(connection)
            return
        except psycopg2.errors.LockNotAvailable:
            time.sleep(_READERS_PAUSE_SECONDS)
    schema = schema_of(connection)
    command = catalogue_of(connection).command("db migrate")
    raise DatabaseError(
        "the readers' views could not be replaced: a transaction that reads "
        f"{schema}.recommendations or {schema}.model_history does not end (SQLSTATE 55P03). "
        "Nothing was changed. End that "
        f"transaction, or run `{command}` when it has ended; see docs/runbook.md#locks."
    )


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
    roles = roles_of(connection)
    missing = {roles.writer, roles.reader} - present_roles(connection, roles)
    if missing:
        command = catalogue_of(connection).command("db bootstrap")
        raise ConfigError(
            f"the Postgres server lacks the role(s) {', '.join(sorted(missing))}; "
            f"an administrator makes them once with `{command} --admin-url ...` "
            "(docs/runbook.md#roles)."
        )


@contextmanager
def _connected(
    url: str,
    isolation_level: str | None = None,
    *,
    catalogue: Catalogue = DEFAULT,
    roles: Roles | None = None,
) -> Iterator[Connection]:
    """Open one transaction on a connection of its own and leave none behind."""
    engine = database_engine(url, catalogue=catalogue, roles=roles)
    try:
        with transaction(engine, isolation_level=isolation_level) as connection:
            yield connection
    finally:
        engine.dispose()


def _administer(admin_url: str) -> AbstractContextManager[Connection]:
    """Return a context with an autocommit connection: CREATE DATABASE runs in no transaction."""
    return _connected(admin_url, "AUTOCOMMIT")
