"""What a warehouse needs of its server: each looked for, made where that is allowed, else said.

An administrator may be a superuser, the admin of a managed server with some rights, or somebody
with none, for whom a DBA has made everything. So nothing is taken for granted: what is there stays
as it is, and what can't be made is given back with the SQL that makes it.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg2
import sqlalchemy as sa
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection

from mf_core.errors import ConfigError
from mf_core.warehouse.engine import cancelled_after, translated_errors
from mf_core.warehouse.problems import first_line
from mf_core.warehouse.roles import Roles
from mf_core.warehouse.schema import psycopg2_cursor

# The template without a locale of its own, so that UTF8 is possible on every server.
_CREATE_DATABASE = "CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0"

_ROLE_EXISTS = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)"
_DATABASE_EXISTS = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = :database)"
# What everybody may is not counted: it goes when the database is closed.
_HAS_RIGHT = """
SELECT EXISTS (
    SELECT
    FROM pg_roles, pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) AS granted
    WHERE rolname = :role AND datname = :database AND granted.privilege_type = :right
        AND CASE WHEN granted.grantee <> 0
            THEN pg_has_role(pg_roles.oid, granted.grantee, 'USAGE')
        END
)
"""
_IS_CLOSED = """
SELECT EXISTS (
    SELECT FROM pg_database
    WHERE datname = :database AND NOT EXISTS (
        SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) AS granted
        WHERE granted.grantee = 0
    )
)
"""
_SEES_SESSIONS = """
SELECT EXISTS (
    SELECT FROM pg_roles
    WHERE rolname = :role AND pg_has_role(oid, 'pg_read_all_stats', 'USAGE')
)
"""
# As Postgres keeps it: `statement_timeout=30s`. What is set for the database goes before the rest;
# any value will do where none is named.
_HAS_TIMEOUT = """
SELECT CAST(:timeout AS text) IS NULL OR setting = 'statement_timeout=' || :timeout
FROM pg_db_role_setting JOIN pg_roles ON pg_roles.oid = setrole, unnest(setconfig) AS setting
WHERE rolname = :role AND setting LIKE 'statement_timeout=%'
    AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = :database))
ORDER BY setdatabase = 0
LIMIT 1
"""
_HAS_LIMIT = """
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role AND rolconnlimit = :connections)
"""
# From Postgres 16 on, who made a role is a member of it without the right to act for it.
_ACTS_FOR = """
SELECT EXISTS (
    SELECT FROM pg_roles
    WHERE rolname = :role AND CASE
        WHEN current_setting('server_version_num')::integer < 160000
        THEN pg_has_role(oid, 'MEMBER')
        ELSE pg_has_role(oid, 'SET')
    END
)
"""
_OPEN_DATABASES = """
SELECT DISTINCT datname
FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) AS granted
WHERE datname <> :database AND datallowconn
    AND granted.grantee = 0 AND granted.privilege_type = 'CONNECT'
ORDER BY datname
"""

# SQLSTATEs of a refusal, and of what follows when a role or a database could not be made.
_REFUSED = ("42501", "42704", "3D000", "0L000", "0LP01", "0P000", "0A000")
# Class of the SQLSTATEs of values that can't be.
_BAD_VALUE = "22"
# A role or a database is one row, which Postgres refuses to change twice at a time.
_CHANGED_MEANWHILE = "XX000"
# Another session may hold what is changed; a new database may take its time.
_LONGEST = timedelta(minutes=2)
_PAUSES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)


@dataclass(frozen=True)
class ReaderLimits:
    """What a reader may take of the server; None: what it has, and the default for a new role.

    Attributes:
        statement_timeout: how long a statement may take, as Postgres writes it (`30s`; `0`: any).
        connections: how many sessions there may be at a time; -1: any number.
    """

    statement_timeout: str | None = None
    connections: int | None = None


NO_LIMITS_NAMED = ReaderLimits()
DEFAULT_LIMITS = ReaderLimits(statement_timeout="5min", connections=50)


@dataclass(frozen=True)
class Need:
    """Something that a warehouse needs of its server.

    Attributes:
        what: what it is, for people.
        found: a query that says whether it is there; None: that can't be seen.
        values: of the query.
        make: a statement that makes it.
        without: what goes on without it; empty: nothing does.
        shown: the statement for people, where `make` has a secret.
        of_this_administrator: only he needs it, and only as long as something is missing.
    """

    what: str
    found: str | None
    values: Mapping[str, Any]
    make: pg.Composable
    without: str = ""
    shown: pg.Composable | None = None
    of_this_administrator: bool = False

    def is_met(self, connection: Connection) -> bool:
        """Say whether it is there."""
        if self.found is None:
            return False
        return connection.scalar(sa.text(self.found), self.values) is True

    def statement(self, connection: Connection) -> str:
        """Return the statement for people."""
        with psycopg2_cursor(connection) as cursor:
            return (self.shown or self.make).as_string(cursor)


@dataclass(frozen=True)
class Unmet:
    """What a server lacks, and this administrator may not make; each with its SQL.

    Attributes:
        needed: without which nothing works.
        wanted: without which the rest works.
        elsewhere: what closes other databases, to which every role may connect.
        roles: the names of those of the warehouse's roles that there are.
    """

    needed: Mapping[str, str] = field(default_factory=dict)
    wanted: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Sequence[str] = ()
    roles: Sequence[str] = ()

    def script(self) -> str:
        """Return SQL for a database administrator, with a comment on each statement."""
        lines = []
        for what, statement in {**self.needed, **self.wanted}.items():
            lines += [f"-- {what}", f"{statement};"]
        return "\n".join(lines)


def meet(connection: Connection, needs: Iterable[Need]) -> Unmet:
    """Look for each of `needs`, and make what is missing, as far as that is allowed.

    Args:
        connection: an administrator's, with a transaction for each statement.
        needs: in the order in which they depend on each other.

    Raises:
        ConfigError: a value can't be, such as a time that is none.
        DatabaseError: the server can't be reached, or breaks off.
    """
    needed = {}
    wanted = {}
    for need in needs:
        if need.is_met(connection) or _make(connection, need) or need.of_this_administrator:
            continue
        if need.without:
            wanted[f"{need.what}; without it {need.without}"] = need.statement(connection)
        else:
            needed[need.what] = need.statement(connection)
    return Unmet(needed, wanted)


def _make(connection: Connection, need: Need) -> bool:
    """Make what is missing; return whether it is there now."""
    for pause in _PAUSES:
        time.sleep(pause)
        try:
            with (
                cancelled_after(connection, _LONGEST),
                psycopg2_cursor(connection) as cursor,
            ):
                cursor.execute(need.make)
        except psycopg2.Error as error:
            # Another administrator may make the same at this moment.
            if need.is_met(connection):
                return True
            if error.pgcode in _REFUSED:
                return False
            if error.pgcode == _CHANGED_MEANWHILE and pause != _PAUSES[-1]:
                continue
            if (error.pgcode or "").startswith(_BAD_VALUE):
                raise ConfigError(f"{need.what} can't be set: {first_line(error)}.") from error
            with translated_errors(connection):
                raise
        # Who may not grant a right gets no error, only a warning.
        return need.found is None or need.is_met(connection)
    raise AssertionError("unreachable")


def acting_for(role: str) -> Need:
    """Return the need of an administrator to act for a role, so as to give it a database."""
    statement = pg.SQL("GRANT {} TO CURRENT_USER").format(pg.Identifier(role))
    return Need(role, _ACTS_FOR, {"role": role}, statement, of_this_administrator=True)


def role(
    name: str,
    password: str | None = None,
    without: str = "",
    *,
    connections: int = -1,
) -> list[Need]:
    """Return what a login role needs: itself, and its password where one is given.

    A new role may have `connections` sessions at a time; -1: any number.
    """
    login = pg.SQL("CREATE ROLE {} LOGIN").format(pg.Identifier(name))
    if connections >= 0:
        login += pg.SQL(" CONNECTION LIMIT {}").format(pg.Literal(connections))
    needs = [Need(f"the role {name}", _ROLE_EXISTS, {"role": name}, login, without)]
    if password is not None:
        change = pg.SQL("ALTER ROLE {} PASSWORD {}")
        needs.append(
            Need(
                f"the password of {name}",
                None,
                {},
                change.format(pg.Identifier(name), pg.Literal(password)),
                "it stays what it is",
                shown=change.format(pg.Identifier(name), pg.Literal("...")),
            )
        )
    return needs


def database(name: str, owner: str) -> Need:
    """Return the need of a database."""
    make = pg.SQL(_CREATE_DATABASE).format(pg.Identifier(name), pg.Identifier(owner))
    return Need(f"the database {name}", _DATABASE_EXISTS, {"database": name}, make)


def closed(database: str) -> Need:
    """Return the need of a database to be closed to all roles that were not let in.

    It comes after the rights of those that are.
    """
    close = pg.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(pg.Identifier(database))
    open_to_all = "every role of the server may connect to it"
    what = f"the database {database}, closed to others"
    return Need(what, _IS_CLOSED, {"database": database}, close, open_to_all)


def rights(database: str, roles: Roles) -> list[Need]:
    """Return what the roles of a catalogue need on its database, and the writer on the server."""
    everybody_else = [
        _right(database, name, "CONNECT", "it reads nothing")
        for name in (roles.reader, roles.console, roles.monitor)
    ]
    schemas = "its schemas must be made for it"
    stats = pg.SQL("GRANT pg_read_all_stats TO {}").format(pg.Identifier(roles.writer))
    return [
        _right(database, roles.writer, "CONNECT"),
        _right(database, roles.writer, "TEMPORARY"),
        _right(database, roles.writer, "CREATE", schemas),
        *everybody_else,
        Need(
            f"the right of {roles.writer} to see how old the transactions of readers are",
            _SEES_SESSIONS,
            {"role": roles.writer},
            stats,
            "old lists stay while any other transaction is open",
        ),
    ]


def _right(database: str, role: str, right: str, without: str = "") -> Need:
    grant = pg.SQL("GRANT {} ON DATABASE {} TO {}").format(
        pg.SQL(right), pg.Identifier(database), pg.Identifier(role)
    )
    values = {"database": database, "role": role, "right": right}
    what = f"the right {right} of {role} on the database {database}"
    return Need(what, _HAS_RIGHT, values, grant, without)


def limits(database: str, reader: str, wanted: ReaderLimits) -> list[Need]:
    """Return what keeps a reader from taking the server for itself."""
    name = pg.Identifier(reader)
    timeout = wanted.statement_timeout
    value = pg.Literal(timeout or DEFAULT_LIMITS.statement_timeout)
    set_timeout = pg.SQL("ALTER ROLE {} IN DATABASE {} SET statement_timeout = {}")
    needed = [
        Need(
            f"the statement_timeout of {reader}",
            _HAS_TIMEOUT,
            {"role": reader, "database": database, "timeout": timeout},
            set_timeout.format(name, pg.Identifier(database), value),
            "its statements may take as long as they like",
        )
    ]
    # A new role has the default. Whoever has taken that limit away had a reason.
    if wanted.connections is not None:
        connections = pg.Literal(wanted.connections)
        needed.append(
            Need(
                f"the connection limit of {reader}",
                _HAS_LIMIT,
                {"role": reader, "connections": wanted.connections},
                pg.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(name, connections),
                "it has the one that it had",
            )
        )
    return needed


def closing_others(connection: Connection, database: str) -> list[str]:
    """Return the SQL that closes all other databases to those who were not let in.

    Nobody but their owners can say whether that would lock somebody out.
    """
    close = pg.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC;")
    names = connection.scalars(sa.text(_OPEN_DATABASES), {"database": database}).all()
    with psycopg2_cursor(connection) as cursor:
        return [close.format(pg.Identifier(name)).as_string(cursor) for name in names]
