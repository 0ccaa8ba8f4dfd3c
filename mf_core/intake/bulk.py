"""Large loads: how they are planned, a key that is built when its rows are there, statistics.

What Postgres plans hangs on statistics, and those of a table that is about to be filled are of the
table as it was: analysed while it was empty, it gets plans that read all of it again for each row.
So nothing here depends on them. What is to change is worked out by a statement that writes to
temporary tables only, by joins that read each side once; what is written then is joined with
nothing, or with those few rows.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mf_core.warehouse.history import live_version
from mf_core.warehouse.problems import DEPENDED_ON, LOCK_NOT_AVAILABLE, NO_RIGHT
from mf_core.warehouse.schema import schema_of, sql

# From this share of changed rows on, statistics no longer say what is in a table.
_MANY = 0.1

# Hashes and sorts read each side of a join once, whatever was expected of it.
_PLANNING = "SET LOCAL enable_nestloop = off"
# Room for sorts and hashes of all rows.
_MEMORY = "SET LOCAL work_mem = '256MB'"

# A row's place leads to it at once. With every way to search a table off there is no other plan for
# a join by places, whatever the statistics say.
_BY_PLACE = {
    "enable_nestloop": "on",
    "enable_seqscan": "off",
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "enable_bitmapscan": "off",
}
_SETTING = sa.text("SELECT current_setting(:name)")
_SET_LOCAL = sa.text("SELECT set_config(:name, :value, true)")

# What somebody has set on the index of a key would go with it.
_IS_PLAIN = """
SELECT EXISTS (
    SELECT
    FROM pg_catalog.pg_constraint AS c
    JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.conindid
    JOIN pg_catalog.pg_class AS k ON k.oid = c.conindid
    WHERE c.conrelid = to_regclass(:name)
        AND c.conname = :key
        AND k.reloptions IS NULL
        AND k.reltablespace = 0
        AND NOT i.indisreplident
        AND NOT i.indisclustered
)
"""
_UNABLE = (LOCK_NOT_AVAILABLE, DEPENDED_ON, NO_RIGHT)


def plan_for_all_rows(connection: Connection) -> None:
    """Have the statements of this transaction planned so that no join reads a side row by row."""
    connection.execute(sa.text(_PLANNING))
    connection.execute(sa.text(_MEMORY))


@contextmanager
def rows_by_place(connection: Connection) -> Iterator[None]:
    """Have the block's statements fetch rows by their places (ctid), each at once."""
    before = {name: connection.scalar(_SETTING, {"name": name}) for name in _BY_PLACE}
    _set_locally(connection, _BY_PLACE)
    yield
    _set_locally(connection, before)


def _set_locally(connection: Connection, values: Mapping[str, str]) -> None:
    """Set values for the rest of the transaction."""
    for name, value in values.items():
        connection.execute(_SET_LOCAL, {"name": name, "value": value})


def is_empty(connection: Connection, table: sa.Table) -> bool:
    """Return whether a table has no row."""
    return not connection.scalar(sa.select(sa.exists().select_from(table)))


@contextmanager
def key_built_last(connection: Connection, table: sa.Table) -> Iterator[None]:
    """Take the primary key off an empty table while the block fills it; it is built at the end.

    To sort all keys once takes a third of what it takes to find the place of each. Nobody can read
    the table meanwhile. So the key stays, and the block takes longer, where somebody may want to
    (lists are live, a lock is held), where the table is not empty, and where the key is not as the
    migrations made it.
    """
    without_key = _take_key_off(connection, table)
    yield
    if without_key:
        columns = ", ".join(column.name for column in table.primary_key)
        connection.execute(
            sql(
                connection,
                f"ALTER TABLE {{mf}}.{table.name} "
                f"ADD CONSTRAINT {table.primary_key.name} PRIMARY KEY ({columns})",
            )
        )


def _take_key_off(connection: Connection, table: sa.Table) -> bool:
    """Drop the primary key of a table, if that is harmless, and return whether it was."""
    if live_version(connection) is not None:
        return False
    name = f"{schema_of(connection)}.{table.name}"
    key = {"name": name, "key": table.primary_key.name}
    if not connection.scalar(sa.text(_IS_PLAIN), key):
        return False

    # Whoever waits for a lock lets nobody pass who comes behind; so this does not wait.
    attempt = connection.begin_nested()
    try:
        connection.execute(sa.text(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE NOWAIT"))
        if not is_empty(connection, table):
            attempt.rollback()
            return False
        drop = f"ALTER TABLE {name} DROP CONSTRAINT {table.primary_key.name}"
        connection.execute(sa.text(drop))
    except sa.exc.DBAPIError as error:
        attempt.rollback()
        if getattr(error.orig, "pgcode", None) not in _UNABLE:
            raise
        return False
    attempt.commit()
    return True


def analyze_if_many(connection: Connection, table: sa.Table, n_changed: int, n_rows: int) -> None:
    """Let Postgres look at a table again, if many of its rows are new.

    It would do so by itself, but a minute later or more. A table that somebody has locked is left
    to it.
    """
    if n_changed > n_rows * _MANY:
        connection.execute(sql(connection, f"ANALYZE (SKIP_LOCKED) {{mf}}.{table.name}"))
