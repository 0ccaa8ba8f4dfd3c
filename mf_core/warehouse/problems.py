"""What Postgres' errors mean: the one place that turns them into the project's own.

An error is known by its SQLSTATE. What is not known here is a defect, and stays as it is.
"""

import re
from typing import Any

import psycopg2
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mf_core.errors import ConfigError, DatabaseError, MFError
from mf_core.warehouse import revisions
from mf_core.warehouse.address import VARIABLE
from mf_core.warehouse.roles import roles_of
from mf_core.warehouse.schema import catalogue_of, schema_of

LOCK_NOT_AVAILABLE = "55P03"
_READ_ONLY = "25006"
NO_RIGHT = "42501"
DEPENDED_ON = "2BP01"

# SQLSTATE classes: connection exception, transaction rollback, insufficient resources, operator
# intervention.
_MAY_PASS = ("08", "40", "53", "57")
_WHAT_TO_DO = {
    "53100": "The disk of the Postgres server is full: free some space there.",
    "53300": "The server takes no more connections: end idle ones, or raise max_connections.",
    _READ_ONLY: ("The server takes no writes, as a standby does: point {variable} at the primary."),
}
_ELSE = "Check {variable}, the server and its disk."

# No such table, column, function or schema; no such constraint for ON CONFLICT.
_NOT_THERE = ("42P01", "42703", "42883", "3F000", "42P10")
# Those, and constraints that another revision of the schema may have.
_OF_THE_SCHEMA = (*_NOT_THERE, "23502", "23503", "23514")


def explain(
    error: BaseException | None,
    statement: str | None,
    *,
    bind: Engine | Connection,
    lost: bool = False,
) -> MFError | None:
    """Return the project's error for one of the driver's; None where it is a defect.

    Args:
        error: what psycopg2 raised.
        statement: the SQL that it was raised for, if there was one.
        bind: where it was raised. On an engine the schema's revision is looked up.
        lost: the connection is gone, whatever the error says.
    """
    code = getattr(error, "pgcode", None) or ""
    variable = catalogue_of(bind).variable(VARIABLE)
    if code == LOCK_NOT_AVAILABLE:
        return _locked(error, statement, schema_of(bind))
    if code == NO_RIGHT:
        return _no_right(error, bind, variable)
    if code == DEPENDED_ON:
        return _depended_on(error)
    if lost or code.startswith(_MAY_PASS) or code == _READ_ONLY:
        return _broken_off(error, code, variable)
    if not code and isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return _broken_off(error, code, variable)
    if not code and isinstance(error, psycopg2.ProgrammingError):
        return ConfigError(
            f"{variable} can't be used: {first_line(error)}. "
            "Expected postgresql+psycopg2://USER:PASSWORD@HOST:PORT/DATABASE."
        )
    if isinstance(bind, Engine) and code in _OF_THE_SCHEMA:
        return _of_the_schema(error, code, bind)
    return None


def first_line(error: BaseException | None) -> str:
    """Return the first line of what the driver says, without the statement."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(cause).__name__


def _broken_off(error: BaseException | None, code: str, variable: str) -> DatabaseError:
    advice = _WHAT_TO_DO.get(code, _ELSE).format(variable=variable)
    return DatabaseError(f"Postgres did not answer as expected: {first_line(error)}. {advice}")


def _locked(error: BaseException | None, statement: str | None, schema: str) -> DatabaseError:
    """Return the error for a lock that was not given in time."""
    cursor: Any = getattr(error, "cursor", None)
    query = getattr(cursor, "query", None)
    sql = statement or (query.decode(errors="replace") if query else "")
    tables = sorted(set(re.findall(rf"\b{schema}\.(\w+)", sql.replace('"', ""))))

    # A wait for a row is told in the error's context, which names the table.
    context = getattr(getattr(error, "diag", None), "context", None) or ""
    if in_context := re.search(r'in relation "(\w+)"', context):
        tables = [in_context[1]]
    named = " or ".join(f"{schema}.{table}" for table in tables) or "the warehouse"
    wanted = ", ".join(f"'{schema}.{table}'::regclass" for table in tables)
    where = f"relation IN ({wanted})" if wanted else "granted"
    return DatabaseError(
        f"{named} is locked by another session, and the lock was not given within "
        f"lock_timeout (SQLSTATE {LOCK_NOT_AVAILABLE}). Trying again is safe. Who holds it: "
        "SELECT pid, usename, application_name, xact_start, query FROM pg_stat_activity "
        f"WHERE pid IN (SELECT pid FROM pg_locks WHERE granted AND {where}). "
        "See docs/runbook.md#locks."
    )


def _no_right(error: BaseException | None, bind: Engine | Connection, variable: str) -> ConfigError:
    role = bind.engine.url.username
    who = f"the role {role}" if role else f"the role that {variable} names"
    writer = roles_of(bind).writer
    bootstrap = catalogue_of(bind).command("db bootstrap")
    return ConfigError(
        f"{who} lacks a right: {first_line(error)}. The pipeline and the `mf` command connect as "
        f"{writer} ({variable}), `{bootstrap}` as an administrator (--admin-url); "
        "see docs/runbook.md#roles."
    )


def _depended_on(error: BaseException | None) -> DatabaseError:
    """Return the error for what can't be dropped, as something of somebody else's rests on it."""
    # One line for each that does.
    detail = getattr(getattr(error, "diag", None), "message_detail", None) or ""
    who = "; ".join(detail.splitlines())
    return DatabaseError(
        f"{first_line(error)}: {who or 'something'}, and is none of this project's. Nothing was "
        "dropped. Keep its definition (pg_dump --schema-only), drop it, run this again, and make "
        f"it again (SQLSTATE {DEPENDED_ON}); see docs/howto/upgrade.md."
    )


def _of_the_schema(error: BaseException | None, code: str, engine: Engine) -> DatabaseError | None:
    """Return the error for a schema that is not the one this code was written for."""
    try:
        with engine.connect() as connection:
            difference = revisions.difference(connection)
    except sa.exc.SQLAlchemyError:
        return None
    if difference is not None:
        return DatabaseError(f"{difference} ({first_line(error)})")
    if code not in _NOT_THERE:
        return None
    return DatabaseError(
        f"{first_line(error)}, though the schema {schema_of(engine)} is at revision "
        f"{revisions.known()[0]}: somebody has dropped or renamed it. "
        "A version's table (recommendation_rows_v<version>) is made again by a new run; "
        "anything else comes back from a backup."
    )
