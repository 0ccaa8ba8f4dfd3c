"""Which revision the warehouse's schema is at, and which one this code was written for."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from sqlalchemy.engine import Connection

from mf_core.warehouse.roles import roles_of
from mf_core.warehouse.schema import catalogue_of, schema_of, sql

MIGRATIONS = Path(__file__).parent / "migrations"
_TABLE = "{mf}.alembic_version"


@cache
def known() -> tuple[str, ...]:
    """Return the revisions that this code knows, the newest first."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(MIGRATIONS))
    return tuple(script.revision for script in scripts.walk_revisions())


def before_downgrade(present: str, revision: str) -> list[Callable[[Connection], None]]:
    """Return what the migrations from `present` down to `revision` want done before, in order.

    It is their function `before_downgrade`. Readers keep the text of a function that they call
    while they wait for its tables, so one that needs a column goes before the column does.
    """
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(MIGRATIONS)).iterate_revisions(present, revision)
    asked = [getattr(script.module, "before_downgrade", None) for script in scripts]
    return [prepare for prepare in asked if prepare]


def present(connection: Connection) -> str | None:
    """Return the revision that the schema is at; None: it was never migrated, or is empty."""
    if connection.scalar(sql(connection, f"SELECT to_regclass('{_TABLE}')")) is None:
        return None
    revision: str | None = connection.scalar(sql(connection, f"SELECT version_num FROM {_TABLE}"))
    return revision


def difference(connection: Connection) -> str | None:
    """Say in words how the schema differs from what this code needs, and what to do.

    None: it is the one that this code was written for.
    """
    needed = known()[0]
    found = present(connection)
    schema = schema_of(connection)
    writer = roles_of(connection).writer
    command = catalogue_of(connection).command("db migrate")
    if found == needed:
        return None
    if found is None:
        return (
            f"the warehouse's schema {schema} is missing, expected revision {needed}. "
            f"Run `{command}` as {writer}."
        )
    if found in known():
        return (
            f"the warehouse's schema {schema} is at revision {found}, this code needs {needed}. "
            f"Run `{command}` as {writer}."
        )
    return (
        f"the warehouse's schema {schema} is at revision {found}; this code is older and knows "
        f"revisions up to {needed}. Install the release here that the schema was migrated with."
    )
