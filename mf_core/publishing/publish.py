"""From rows to readers without locking them out: fill, verify, attach, promote, retire.

A version's rows go into a table of its own that carries CHECK (model_version = n), are verified
there by SQL, and only then become a partition of `mf.recommendation_rows` (no scan, no lock that
readers wait for). Promotion is a compare-and-swap of the one row of `mf.live`; so is rollback.
Retirement is best effort and never takes rows that an open transaction may still read.
"""

import re
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection, Engine

from mf_core.errors import DatabaseError, StateError, VerificationError
from mf_core.records import EvalReport, PublishReport, RollbackReport
from mf_core.warehouse import tables as t
from mf_core.warehouse import versions
from mf_core.warehouse.engine import copy_frame, psycopg2_cursor, transaction

Log = Callable[[str], None]
_PARTITION = re.compile(r"recommendation_rows_v(\d+)")
_LIST_CHECKS = Path(__file__).parent / "list_checks"
_LOCK_NOT_AVAILABLE = "55P03"
_DETACH_TIMEOUT = "5s"
_RETIRE_LOCK = "mf.retire"
_PLANNED_READERS_SECONDS = 2.0
_POLL_SECONDS = 0.02
_LEFTOVER_AFTER = timedelta(days=2)  # longer than any run may take


def table_name(model_version: int) -> str:
    """Return the name of a version's table in schema `mf`."""
    return f"recommendation_rows_v{int(model_version)}"


def create_table(connection: Connection, model_version: int) -> None:
    """Make the empty standalone table of a version; one that a killed run left is replaced.

    Raises:
        StateError: the version was not approved, or readers may see it already.
    """
    versions.require(connection, model_version, ("approved",), "get new lists")
    _refuse_attached(connection, model_version)
    name = table_name(model_version)
    _run(connection, "DROP TABLE IF EXISTS mf.{}", pg.Identifier(name))
    _run(
        connection,
        "CREATE TABLE mf.{} (LIKE mf.recommendation_rows INCLUDING DEFAULTS INCLUDING CONSTRAINTS, "
        "CONSTRAINT {} CHECK (model_version = {}))",
        pg.Identifier(name),
        pg.Identifier(f"{name}_version_check"),
        pg.Literal(int(model_version)),
    )


def _refuse_attached(connection: Connection, model_version: int) -> None:
    if model_version in attached_versions(connection):
        raise StateError(
            f"model version {model_version} is published already, so its lists are not written "
            "again; start a new run to make a new version."
        )


def replace_rows(
    connection: Connection, table: str, model_version: int, frames: Iterable[pd.DataFrame]
) -> None:
    """Replace a version's rows of `mf.popular_items` or `mf.similar_items`."""
    target = t.metadata.tables[f"mf.{table}"]
    connection.execute(sa.delete(target).where(target.c.model_version == model_version))
    for frame in frames:
        copy_frame(connection, ("mf", table), frame)


def write_shard(
    connection: Connection,
    model_version: int,
    first_user: str,
    last_user: str,
    frames: Iterable[pd.DataFrame],
) -> int:
    """Replace the rows of the users first_user..last_user in a version's standalone table.

    Returns how many were written.

    Raises:
        VerificationError: the table is gone.
        StateError: the version was not approved, or readers may see it already.
    """
    versions.require(connection, model_version, ("approved",), "get new lists")
    name = table_name(model_version)
    if not _relation_exists(connection, name):
        raise VerificationError(f"the table mf.{name} is missing; run the step `prepare` again.")
    _refuse_attached(connection, model_version)
    _run(
        connection,
        "DELETE FROM mf.{} WHERE user_id BETWEEN {} AND {}",
        pg.Identifier(name),
        pg.Literal(first_user),
        pg.Literal(last_user),
    )
    rows = 0
    for frame in frames:
        copy_frame(connection, ("mf", name), frame)
        rows += len(frame)
    return rows


def verify_table(connection: Connection, model_version: int, min_coverage: float) -> int:
    """Check a version's standalone table, index it, and return its number of rows.

    The checks are the queries of `publishing/list_checks/`. Each returns offending rows, a few at
    most; no row means that the check holds.

    Raises:
        VerificationError: a check failed; all failing ones are named.
        StateError: the version was not approved, or its lists are gone by now.
    """
    name = table_name(model_version)
    if model_version in attached_versions(connection):
        return _count_rows(connection, name)
    versions.require(connection, model_version, ("approved", "evaluated"), "be verified")
    values = {"model_version": model_version, "min_coverage": min_coverage}
    problems = []
    for path in sorted(_LIST_CHECKS.glob("*.sql")):
        query = path.read_text().replace("recommendation_rows_candidate", name)
        rows = connection.execute(sa.text(query), values).mappings().all()
        if rows:
            examples = "; ".join(str(dict(row)) for row in rows[:3])
            problems.append(f"{path.stem}: {examples}")
    if problems:
        raise VerificationError(
            f"the recommendations of model version {model_version} failed {len(problems)} check(s) "
            f"before anybody saw them. {' | '.join(problems)}. "
            "Readers still see the previous version; see docs/runbook.md#verify."
        )
    _add_primary_key(connection, name)
    return _count_rows(connection, name)


def _count_rows(connection: Connection, name: str) -> int:
    return int(connection.scalar(sa.text(f"SELECT count(*) FROM mf.{name}")))


def _relation_exists(connection: Connection, name: str) -> bool:
    found = connection.scalar(sa.text("SELECT to_regclass(:name)"), {"name": f"mf.{name}"})
    return found is not None


def _add_primary_key(connection: Connection, name: str) -> None:
    if _relation_exists(connection, f"{name}_pkey"):
        return
    _run(
        connection,
        "ALTER TABLE mf.{} ADD CONSTRAINT {} PRIMARY KEY (model_version, user_id, rank)",
        pg.Identifier(name),
        pg.Identifier(f"{name}_pkey"),
    )
    _run(connection, "ANALYZE mf.{}", pg.Identifier(name))


def attach(connection: Connection, model_version: int) -> None:
    """Make a verified table a partition; one that is attached already is fine.

    Readers do not wait for this.

    Raises:
        VerificationError: the table was not verified.
    """
    if model_version in attached_versions(connection):
        return
    name = table_name(model_version)
    # The index comes with the verification.
    if not _relation_exists(connection, f"{name}_pkey"):
        raise VerificationError(
            f"the table mf.{name} was not verified; run the step `verify` first."
        )
    _run(
        connection,
        "ALTER TABLE mf.recommendation_rows ATTACH PARTITION mf.{} FOR VALUES IN ({})",
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
    readers = sa.text("""
        SELECT virtualtransaction FROM pg_locks
        WHERE relation = 'mf.recommendation_rows'::regclass AND mode = 'AccessShareLock'
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND pid <> pg_backend_pid()
    """)
    deadline = time.monotonic() + at_most_seconds
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        waiting = set(connection.scalars(readers))
        while waiting and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            waiting &= set(connection.scalars(readers))
    return not waiting


def report_of(
    engine: Engine, version: int, report: EvalReport, retired: list[int]
) -> PublishReport:
    """Return what the publication of `version` did: its rows, the version before, the `retired`."""
    r = t.recommendation_rows
    counts = sa.select(sa.func.count(r.c.user_id.distinct()), sa.func.count()).where(
        r.c.model_version == version
    )
    with transaction(engine) as connection:
        n_users, n_rows = connection.execute(counts).one()
        previous = versions.replaced_by(connection, version)
    return PublishReport(
        model_version=version,
        previous_version=previous,
        users=n_users,
        rows=n_rows,
        retired_versions=",".join(map(str, retired)),
        rmse=report.rmse,
        ndcg=report.ndcg,
    )


def rollback(engine: Engine, model_version: int | None, by: str) -> RollbackReport:
    """Let readers see an earlier version that is kept.

    None goes to the one that was live before: see `versions.rollback_target`.

    Raises:
        ConfigError: there is no such version.
        PromotionRaceError: another version went live in between.
    """
    with transaction(engine) as connection:
        kept = attached_versions(connection)
        target, live, published_at = versions.rollback_target(connection, kept, model_version)
        versions.promote(connection, target, live, by=by, approval=None)
    return RollbackReport(target, live, published_at.isoformat(), by)


def attached_versions(connection: Connection) -> set[int]:
    """Return the versions whose tables are partitions that readers can reach."""
    names = connection.scalars(
        sa.text(
            "SELECT inhrelid::regclass::text FROM pg_inherits "
            "WHERE inhparent = 'mf.recommendation_rows'::regclass AND NOT inhdetachpending"
        )
    )
    return {_version_of(name) for name in names}


def retire(engine: Engine, keep: int, log: Log) -> list[int]:
    """Drop the rows of all but the last `keep` published versions, and tables that dead runs left.

    Best effort: what an open transaction may still read stays until the next time. Returns the
    retired versions.
    """
    retired = []
    with transaction(engine, isolation_level="AUTOCOMMIT") as connection:
        if not _advisory_lock(connection):
            log("another run is retiring versions; left to it")
            return []
        try:
            _set_lock_timeout(connection)
            kept = versions.by_last_promotion(connection)[:keep]
            with_table = _versions_with_a_table(connection)
            over = versions.retirable(connection, with_table, kept, _LEFTOVER_AFTER)
            for version in over:
                if _retire_one(connection, version, log):
                    retired.append(version)
            versions.stop_dead_runs(connection, _LEFTOVER_AFTER)
        finally:
            connection.execute(sa.text("RESET lock_timeout"))
            _advisory_unlock(connection)
    return retired


def _advisory_lock(connection: Connection) -> bool:
    statement = sa.text("SELECT pg_try_advisory_lock(hashtext(:key))")
    return connection.scalar(statement, {"key": _RETIRE_LOCK}) is True


def _advisory_unlock(connection: Connection) -> None:
    statement = sa.text("SELECT pg_advisory_unlock(hashtext(:key))")
    connection.execute(statement, {"key": _RETIRE_LOCK})


def _set_lock_timeout(connection: Connection) -> None:
    statement = sa.text("SELECT set_config('lock_timeout', :timeout, false)")
    connection.execute(statement, {"timeout": _DETACH_TIMEOUT})


def _versions_with_a_table(connection: Connection) -> set[int]:
    tables = connection.scalars(
        sa.text(
            "SELECT relname FROM pg_class WHERE relnamespace = 'mf'::regnamespace "
            "AND relkind = 'r' AND relname ~ '^recommendation_rows_v[0-9]+$'"
        )
    )
    return {_version_of(name) for name in tables}


def _retire_one(connection: Connection, version: int, log: Log) -> bool:
    if _may_be_read(connection, version):
        log(f"version {version} is kept for now: an open transaction may still read it")
        return False
    try:
        _drop_table(connection, table_name(version))
    except (DatabaseError, sa.exc.DBAPIError) as error:
        if isinstance(error, sa.exc.DBAPIError) and _code(error) != _LOCK_NOT_AVAILABLE:
            raise
        log(f"version {version} is kept for now: its table is in use ({_DETACH_TIMEOUT})")
        return False
    for table in (t.popular_items, t.similar_items):
        connection.execute(sa.delete(table).where(table.c.model_version == version))
    versions.retire(connection, version)
    return True


def _code(error: sa.exc.DBAPIError) -> Any:
    return getattr(error.orig, "pgcode", "")


def _drop_table(connection: Connection, name: str) -> None:
    """Drop a version's table, detached first without a lock that readers wait for."""
    pending = connection.scalar(
        sa.text("SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass(:name)"),
        {"name": f"mf.{name}"},
    )
    if pending is not None:
        # A detachment that was cut off can only be finished.
        how = "FINALIZE" if pending else "CONCURRENTLY"
        statement = "ALTER TABLE mf.recommendation_rows DETACH PARTITION mf.{} " + how
        _run(connection, statement, pg.Identifier(name))
    _run(connection, "DROP TABLE mf.{}", pg.Identifier(name))


def _may_be_read(connection: Connection, version: int) -> bool:
    """Say whether a transaction is open that began before the version was last replaced.

    Its snapshot may still show the version as live. A session whose start can't be seen (no
    pg_read_all_stats) counts.
    """
    replaced_at = versions.last_replaced_at(connection, version)
    open_transactions = sa.text("""
        SELECT EXISTS (
          SELECT FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type IS DISTINCT FROM 'autovacuum worker'
            AND (xact_start <= :replaced_at OR (state IS NULL AND usename <> current_user)))
    """)
    return connection.scalar(open_transactions, {"replaced_at": replaced_at}) is True


def _version_of(name: str) -> int:
    found = _PARTITION.search(name)
    if found is None:
        raise VerificationError(
            f"expected tables named recommendation_rows_v<version> in schema mf, found {name!r}; "
            "remove or rename it."
        )
    return int(found.group(1))


def _run(connection: Connection, template: str, *parts: pg.Composable) -> None:
    """Run a statement with quoted identifiers and literals, where none takes bound parameters."""
    statement = pg.SQL(template).format(*parts)
    with psycopg2_cursor(connection) as cursor:
        connection.exec_driver_sql(statement.as_string(cursor))
