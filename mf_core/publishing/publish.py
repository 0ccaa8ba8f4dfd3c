"""From rows to readers without locking them out: fill, verify, attach, promote.

A version's rows go into a table of its own that carries CHECK (model_version = n), are verified
there by SQL, and only then become a partition of `mf.recommendation_rows` (no scan, no lock that
readers wait for). Promotion is a compare-and-swap of the one row of `mf.live`; so is rollback. Both
look again, under the lock of that row, whether the version still has its lists.
"""

import re
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection, Engine

from mf_core.errors import VerificationError
from mf_core.records import RollbackReport
from mf_core.warehouse import retention, rollbacks, states, versions
from mf_core.warehouse import tables as t
from mf_core.warehouse.engine import copy_csv, copy_frame, csv_text, transaction
from mf_core.warehouse.schema import composed, psycopg2_cursor, schema_of, sql

_PARTITION = re.compile(r"recommendation_rows_v(\d+)")
_PLANNED_READERS_SECONDS = 2.0
_POLL_SECONDS = 0.02
_PLANNED_READERS = """
SELECT virtualtransaction FROM pg_locks
WHERE relation = '{mf}.recommendation_rows'::regclass AND mode = 'AccessShareLock'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND pid <> pg_backend_pid()
"""
_TABLE = "r"
_KINDS = {"v": "view", "m": "materialized view", "f": "foreign table", "S": "sequence"}


def table_name(model_version: int) -> str:
    """Return the name of a version's table in schema `mf`."""
    return f"recommendation_rows_v{int(model_version)}"


def create_table(connection: Connection, model_version: int, made_of: str) -> None:
    """Make the empty standalone table of a version; one that a killed run left is replaced.

    Args:
        connection: a transaction on the warehouse.
        model_version: the version.
        made_of: fingerprint of what its lists are made of; it stays with the table.

    Raises:
        StateError: the version was not approved.
        VerificationError: something else has the table's name.
    """
    states.require(connection, model_version, ("approved",), "get new lists")
    name = table_name(model_version)
    _refuse_another_kind(connection, name)
    run(connection, "DROP TABLE IF EXISTS {mf}.{}", pg.Identifier(name))
    run(
        connection,
        "CREATE TABLE {mf}.{} "
        "(LIKE {mf}.recommendation_rows INCLUDING DEFAULTS INCLUDING CONSTRAINTS, "
        "CONSTRAINT {} CHECK (model_version = {}))",
        pg.Identifier(name),
        pg.Identifier(f"{name}_version_check"),
        pg.Literal(int(model_version)),
    )
    run(connection, "COMMENT ON TABLE {mf}.{} IS {}", pg.Identifier(name), pg.Literal(made_of))
    # A row for each user, and cheap to keep while rows are written: see `write_shard`.
    run(
        connection,
        "CREATE INDEX {} ON {mf}.{} (user_id) WHERE rank = 1",
        pg.Identifier(_first_ranks(name)),
        pg.Identifier(name),
    )


def _first_ranks(name: str) -> str:
    return f"{name}_first_ranks_idx"


def drop_first_ranks(connection: Connection, name: str) -> None:
    """Drop the index that only the writing of a version's table needs."""
    run(connection, "DROP INDEX IF EXISTS {mf}.{}", pg.Identifier(_first_ranks(name)))


def attached_lists(connection: Connection, model_version: int) -> str | None:
    """Return what a version's attached lists were made of (`create_table`); None: it has none.

    It is empty for lists that an older release made.
    """
    if model_version not in attached_versions(connection):
        return None
    name = f"{schema_of(connection)}.{table_name(model_version)}"
    made_of = sa.text("SELECT obj_description(to_regclass(:name), 'pg_class')")
    return connection.scalar(made_of, {"name": name}) or ""


def _refuse_another_kind(connection: Connection, name: str) -> None:
    kind = _kind_of(connection, name)
    if kind not in (None, _TABLE):
        known_kind = _KINDS.get(kind, "relation of another kind")
        raise VerificationError(
            f"{schema_of(connection)}.{name} is a {known_kind}, expected a table or "
            "nothing of that name: rename or remove it, then run the step `prepare` again."
        )


def _kind_of(connection: Connection, name: str) -> str | None:
    """Return what a relation of schema mf is, as `pg_class.relkind` says it; None: there is none.

    A partition is of the kind that any table is.
    """
    kind = sa.text("SELECT relkind::text FROM pg_class WHERE oid = to_regclass(:name)")
    found: str | None = connection.scalar(kind, {"name": f"{schema_of(connection)}.{name}"})
    return found


def replace_rows(
    connection: Connection, table: str, model_version: int, frames: Iterable[pd.DataFrame]
) -> None:
    """Replace a version's rows of `mf.popular_items` or `mf.similar_items`."""
    target = t.metadata.tables[f"{t.SCHEMA}.{table}"]
    connection.execute(sa.delete(target).where(target.c.model_version == model_version))
    for frame in frames:
        copy_frame(connection, (schema_of(connection), table), frame)


def write_shard(
    connection: Connection,
    model_version: int,
    first_user: str,
    last_user: str,
    tables: Iterable[pa.Table],
) -> int:
    """Replace the rows of the users first_user..last_user in a version's standalone table.

    Lists that are attached already stay as they are. Returns how many rows these users have.

    Raises:
        VerificationError: the table is gone.
        StateError: the version was not approved.
    """
    states.require(connection, model_version, ("approved",), "get new lists")
    name = table_name(model_version)
    if model_version in attached_versions(connection):
        r = t.recommendation_rows
        of_shard = r.c.user_id.between(first_user, last_user)
        counted = sa.select(sa.func.count()).where(r.c.model_version == model_version, of_shard)
        return int(connection.scalar(counted) or 0)
    require_table(connection, name)
    _delete_shard(connection, name, first_user, last_user)
    return _copy_beside(connection, (schema_of(connection), name), tables)


def _delete_shard(connection: Connection, name: str, first_user: str, last_user: str) -> None:
    """Delete a shard's rows, which are there if it was written before."""
    edges = {"first_user": first_user, "last_user": last_user}
    of_shard = "user_id BETWEEN :first_user AND :last_user"
    # Every list has a first rank. Without that look, each shard would go through all rows.
    first_ranks = f"SELECT EXISTS (SELECT FROM {{mf}}.{name} WHERE rank = 1 AND {of_shard})"
    if connection.scalar(sql(connection, first_ranks), edges):
        connection.execute(sql(connection, f"DELETE FROM {{mf}}.{name} WHERE {of_shard}"), edges)


def _copy_beside(
    connection: Connection, target: tuple[str, ...], tables: Iterable[pa.Table]
) -> int:
    """COPY tables into `target` and return their rows; the next is made while one is written."""
    rows = 0
    with ThreadPoolExecutor(max_workers=1) as writer:
        under_way: Future[None] | None = None
        for table in tables:
            text = csv_text(table)
            if under_way is not None:
                under_way.result()
            under_way = writer.submit(copy_csv, connection, target, table.column_names, text)
            rows += len(table)
        if under_way is not None:
            under_way.result()
    return rows


def count_rows(connection: Connection, name: str) -> int:
    """Return the number of rows of a version's table."""
    return int(connection.scalar(sql(connection, f"SELECT count(*) FROM {{mf}}.{name}")))


def require_table(connection: Connection, name: str) -> None:
    """Make sure that a version's table is there. Raises VerificationError if it is not."""
    _refuse_another_kind(connection, name)
    if _kind_of(connection, name) is None:
        raise VerificationError(
            f"the table {schema_of(connection)}.{name} is missing; run the step `prepare` again."
        )


def is_verified(connection: Connection, name: str) -> bool:
    """Say whether a version's table has its key, which comes with the verification."""
    return _kind_of(connection, f"{name}_pkey") is not None


def attach(connection: Connection, model_version: int) -> None:
    """Make a verified table a partition; one that is attached already is fine.

    Readers do not wait for this.

    Raises:
        VerificationError: the table was not verified, or is gone.
    """
    if model_version in attached_versions(connection):
        return
    name = table_name(model_version)
    require_table(connection, name)
    if not is_verified(connection, name):
        raise VerificationError(
            f"the table {schema_of(connection)}.{name} was not verified; "
            "run the step `verify` first."
        )
    run(
        connection,
        "ALTER TABLE {mf}.recommendation_rows ATTACH PARTITION {mf}.{} FOR VALUES IN ({})",
        pg.Identifier(name),
        pg.Literal(int(model_version)),
    )


def wait_for_planned_readers(
    engine: Engine, at_most_seconds: float = _PLANNED_READERS_SECONDS
) -> bool:
    """Wait until every statement on the lists that was planned before this call has ended.

    A statement that was planned before a partition was attached, and takes its snapshot after that
    one went live, would find no row at all. Planning is a matter of milliseconds; what goes on for
    longer has its snapshot, so it is not waited for.

    Returns False if some have not ended.
    """
    deadline = time.monotonic() + at_most_seconds
    with transaction(engine, isolation_level="AUTOCOMMIT") as connection:
        readers = sql(connection, _PLANNED_READERS)
        waiting = set(connection.scalars(readers))
        while waiting and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            waiting &= set(connection.scalars(readers))
    return not waiting


def go_live(
    connection: Connection,
    model_version: int,
    champion_judged: int | None,
    *,
    by: str,
    approval: versions.Approval | None,
) -> None:
    """Let readers see an attached version: `versions.promote`, if its lists are still there.

    Raises:
        VerificationError: they are not.
        PromotionRaceError, StateError: as `versions.promote`.
    """
    versions.lock_live(connection)
    if model_version not in attached_versions(connection):
        raise VerificationError(
            f"model version {model_version} has no lists that readers could see: its table was "
            "dropped meanwhile. Run the steps from `prepare` on again, or start a new run."
        )
    versions.promote(connection, model_version, champion_judged, by=by, approval=approval)


def size_of(connection: Connection, model_version: int) -> tuple[int, int]:
    """Return how many users and how many rows the lists of a version have."""
    r = t.recommendation_rows
    counts = sa.select(sa.func.count(r.c.user_id.distinct()), sa.func.count()).where(
        r.c.model_version == model_version
    )
    users, rows = connection.execute(counts).one()
    return users, rows


def rollback(engine: Engine, model_version: int | None, by: str) -> RollbackReport:
    """Let readers see an earlier version that is kept.

    None goes to the one that was live before: see `rollbacks.rollback_target`.

    Raises:
        ConfigError: there is no such version.
        PromotionRaceError: another version went live in between.
    """
    with transaction(engine) as connection:
        # First of all: what is kept, and what is live, stays so until the commit.
        versions.lock_live(connection)
        kept = kept_versions(connection)
        target, live, published_at = rollbacks.rollback_target(connection, kept, model_version)
        go_live(connection, target, live, by=by, approval=None)
    return RollbackReport(target, live, published_at.isoformat(), by)


def attached_versions(connection: Connection) -> set[int]:
    """Return the versions whose tables are partitions that readers can reach."""
    names = connection.scalars(
        sql(
            connection,
            "SELECT inhrelid::regclass::text FROM pg_inherits "
            "WHERE inhparent = '{mf}.recommendation_rows'::regclass AND NOT inhdetachpending",
        )
    )
    return {_version_of(name) for name in names}


def kept_versions(connection: Connection) -> set[int]:
    """Return the versions that readers can be let see: attached, and not about to be dropped."""
    return attached_versions(connection) - retention.marked(connection)


def detaching_tables(connection: Connection) -> list[str]:
    """Return the tables whose detachment was cut off, by name: one at most."""
    return list(
        connection.scalars(
            sql(
                connection,
                "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
                "WHERE inhparent = '{mf}.recommendation_rows'::regclass AND inhdetachpending",
            )
        )
    )


def versions_with_lists(connection: Connection) -> set[int]:
    """Return the versions that have a table of their own, or a popular list."""
    tables = connection.scalars(
        sql(
            connection,
            "SELECT relname FROM pg_class WHERE relnamespace = '{mf}'::regnamespace "
            "AND relkind = 'r' AND relname ~ '^recommendation_rows_v[0-9]+$'",
        )
    )
    with_popular = connection.scalars(sa.select(t.popular_items.c.model_version).distinct())
    return {_version_of(name) for name in tables} | set(with_popular)


def drop_lists(connection: Connection, model_version: int) -> None:
    """Drop all lists of a version whose table is not, or no longer, attached."""
    if _kind_of(connection, table_name(model_version)) == _TABLE:
        run(connection, "DROP TABLE {mf}.{}", pg.Identifier(table_name(model_version)))
    for table in (t.popular_items, t.similar_items):
        connection.execute(sa.delete(table).where(table.c.model_version == model_version))


def _version_of(name: str) -> int:
    found = _PARTITION.search(name)
    if found is None:
        raise VerificationError(
            f"expected tables named recommendation_rows_v<version> in the schema, found {name!r}; "
            "remove or rename it."
        )
    return int(found.group(1))


def run(connection: Connection, template: str, *parts: pg.Composable) -> None:
    """Run a statement with quoted identifiers and literals, where none takes bound parameters."""
    statement = composed(connection, template, *parts)
    # Without parameters, or the driver would take a percent sign in a literal for a placeholder.
    whole = {"no_parameters": True}
    with psycopg2_cursor(connection) as cursor:
        connection.exec_driver_sql(statement.as_string(cursor), execution_options=whole)
