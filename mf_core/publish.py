"""From rows to readers without locking them out: fill, verify, attach, promote, retire.

A version's rows go into a table of its own that carries CHECK (model_version = n), are verified there by SQL, and only then
become a partition of `mf.recommendation_rows` (no scan, no lock that readers wait for). Promotion is a compare-and-swap of
the one row of `mf.live`; so is rollback. Retirement is best effort and never takes rows that an open transaction may still
read.
"""

import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import sqlalchemy as sa
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection, Engine

from mf_core.errors import ConfigError, DatabaseError, PromotionRaceError, VerificationError
from mf_core.records import EvalReport, PublishReport, RollbackReport
from mf_core.warehouse import tables as t
from mf_core.warehouse.engine import copy_frame, psycopg2_cursor, transaction

Log = Callable[[str], None]
_PARTITION = re.compile(r"recommendation_rows_v(\d+)")
_CHECKS = Path(__file__).parent / "checks"
_DETACH_TIMEOUT = "5s"
_RETIRE_LOCK = "mf.retire"
_PLANNED_READERS_SECONDS, _POLL_SECONDS = 2.0, 0.02
_LEFTOVER_AFTER = "2 days"  # longer than any run may take


def table_name(model_version: int) -> str:
    """Return the name of a version's table in schema `mf`."""
    return f"recommendation_rows_v{int(model_version)}"


def create_table(connection: Connection, model_version: int) -> None:
    """Make the empty standalone table of a version; one that a killed run left is replaced.

    Raises:
        ConfigError: readers may see that version already.
    """
    if model_version in attached_versions(connection):
        raise ConfigError(
            f"model version {model_version} is published already; start a new run to make a new version."
        )
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
    """Replace the rows of the users first_user..last_user in a version's standalone table; return how many were written.

    Raises:
        VerificationError: the table is gone or published already.
    """
    name = table_name(model_version)
    if connection.scalar(sa.text("SELECT to_regclass(:name)"), {"name": f"mf.{name}"}) is None:
        raise VerificationError(f"the table mf.{name} is missing; run the step `prepare` again.")
    if model_version in attached_versions(connection):
        raise VerificationError(
            f"model version {model_version} is published already; its rows are not written again."
        )
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
    """Check a version's standalone table with the queries of `mf_core/checks/`, index it, and return its number of rows.

    Each query returns the offending rows, at most a few; no row means that the check holds.

    Raises:
        VerificationError: a check failed; all failing ones are named.
    """
    name = table_name(model_version)
    if model_version in attached_versions(connection):
        return int(connection.scalar(sa.text(f"SELECT count(*) FROM mf.{name}")))
    problems = []
    for path in sorted(_CHECKS.glob("*.sql")):
        query = path.read_text().replace("recommendation_rows_candidate", name)
        rows = (
            connection.execute(
                sa.text(query), {"model_version": model_version, "min_coverage": min_coverage}
            )
            .mappings()
            .all()
        )
        if rows:
            problems.append(f"{path.stem}: {'; '.join(str(dict(row)) for row in rows[:3])}")
    if problems:
        raise VerificationError(
            f"the recommendations of model version {model_version} failed {len(problems)} check(s) before anybody saw them. "
            f"{' | '.join(problems)}. Readers still see the previous version; see docs/runbook.md#verify."
        )
    _add_primary_key(connection, name)
    return int(connection.scalar(sa.text(f"SELECT count(*) FROM mf.{name}")))


def _add_primary_key(connection: Connection, name: str) -> None:
    if connection.scalar(sa.text("SELECT to_regclass(:name)"), {"name": f"mf.{name}_pkey"}) is None:
        _run(
            connection,
            "ALTER TABLE mf.{} ADD CONSTRAINT {} PRIMARY KEY (model_version, user_id, rank)",
            pg.Identifier(name),
            pg.Identifier(f"{name}_pkey"),
        )
        _run(connection, "ANALYZE mf.{}", pg.Identifier(name))


def attach(connection: Connection, model_version: int) -> None:
    """Make a verified table a partition; one that is attached already is fine. Readers do not wait for this.

    Raises:
        VerificationError: the table was not verified.
    """
    if model_version in attached_versions(connection):
        return
    name = table_name(model_version)
    if connection.scalar(sa.text("SELECT to_regclass(:name)"), {"name": f"mf.{name}_pkey"}) is None:
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
    """Wait until every statement on the lists that was planned before this call has ended; return False if some have not.

    A statement that was planned before a partition was attached, and takes its snapshot after that one went live, would find no
    row at all. Planning is a matter of milliseconds; what goes on for longer has its snapshot, so it is not waited for.
    """
    readers = sa.text(
        "SELECT virtualtransaction FROM pg_locks "
        "WHERE relation = 'mf.recommendation_rows'::regclass AND mode = 'AccessShareLock' "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()"
    )
    deadline = time.monotonic() + at_most_seconds
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        waiting = set(connection.scalars(readers))
        while waiting and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            waiting &= set(connection.scalars(readers))
    return not waiting


def promote(
    connection: Connection, model_version: int, champion_judged: int | None, action: str = "publish"
) -> int | None:
    """Let readers see `model_version`, if the live version still is the one it was judged against; return that one.

    The only writer of `mf.live`.

    Raises:
        PromotionRaceError: another version went live in between.
    """
    swapped = connection.execute(
        sa.update(t.live)
        .where(t.live.c.model_version.is_not_distinct_from(champion_judged))
        .values(model_version=model_version)
    )
    if swapped.rowcount == 0:
        now_live = connection.scalar(sa.select(t.live.c.model_version))
        raise PromotionRaceError(
            f"model version {model_version} was judged against version {champion_judged}, but version {now_live} is live now: "
            "another run promoted its own. Judge again (`mf evaluate`, `mf gate`) and publish again."
        )
    connection.execute(
        sa.insert(t.promotions).values(
            model_version=model_version, previous_version=champion_judged, action=action
        )
    )
    first_time = sa.func.coalesce(t.models.c.published_at, sa.func.now())
    connection.execute(
        sa.update(t.models)
        .where(t.models.c.model_version == model_version)
        .values(state="published", published_at=first_time)
    )
    return champion_judged


def was_promoted(connection: Connection, model_version: int) -> bool:
    """Say whether a version has been live before (a publish that was killed after its commit runs again)."""
    p = t.promotions
    return (
        connection.scalar(sa.select(sa.exists().where(p.c.model_version == model_version))) is True
    )


def report_of(
    engine: Engine, version: int, report: EvalReport, retired: list[int]
) -> PublishReport:
    """Return what the publication of `version` did: its rows, the version before, and the `retired` ones."""
    with transaction(engine) as connection:
        counts = connection.execute(
            sa.select(
                sa.func.count(t.recommendation_rows.c.user_id.distinct()), sa.func.count()
            ).where(t.recommendation_rows.c.model_version == version)
        ).one()
        previous = connection.scalar(
            sa.select(t.promotions.c.previous_version)
            .where(t.promotions.c.model_version == version)
            .order_by(t.promotions.c.promotion_id.desc())
            .limit(1)
        )
    return PublishReport(
        version,
        previous,
        counts[0],
        counts[1],
        ",".join(map(str, retired)),
        report.rmse,
        report.ndcg,
    )


def rollback(engine: Engine, model_version: int | None = None) -> RollbackReport:
    """Let readers see an earlier version that is kept; None: the one that was live before.

    Raises:
        ConfigError: there is no such version.
        PromotionRaceError: another version went live in between.
    """
    with transaction(engine) as connection:
        live = connection.scalar(sa.select(t.live.c.model_version))
        kept = [
            version
            for version in _by_last_promotion(connection)
            if version != live and version in attached_versions(connection)
        ]
        target = (kept[0] if kept else None) if model_version is None else model_version
        if target is None or target not in kept:
            raise ConfigError(
                f"can't roll back to {'an earlier version' if model_version is None else f'version {model_version}'}: the kept "
                f"versions are {kept or 'none'}, live is {live}. `mf history` lists them."
            )
        promote(connection, target, live, action="rollback")
    return RollbackReport(target, live)


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
    """Drop the rows of all but the last `keep` published versions, and tables that dead runs left; return the retired versions.

    Best effort: what an open transaction may still read stays until the next time.
    """
    retired = []
    with transaction(engine, isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(
            sa.text("SELECT pg_try_advisory_lock(hashtext(:key))"), {"key": _RETIRE_LOCK}
        ):
            log("another run is retiring versions; left to it")
            return []
        try:
            connection.execute(
                sa.text("SELECT set_config('lock_timeout', :timeout, false)"),
                {"timeout": _DETACH_TIMEOUT},
            )
            kept = set(_by_last_promotion(connection)[:keep])
            for version in _retirable(connection, kept):
                if _retire_one(connection, version, log):
                    retired.append(version)
        finally:
            connection.execute(sa.text("RESET lock_timeout"))
            connection.execute(
                sa.text("SELECT pg_advisory_unlock(hashtext(:key))"), {"key": _RETIRE_LOCK}
            )
    return retired


def _retirable(connection: Connection, kept: set[int]) -> list[int]:
    """Versions that have a table, are not kept, and were published before or belong to a run that is long dead."""
    tables = connection.scalars(
        sa.text(
            "SELECT relname FROM pg_class WHERE relnamespace = 'mf'::regnamespace AND relkind = 'r' "
            "AND relname ~ '^recommendation_rows_v[0-9]+$'"
        )
    )
    versions = {_version_of(name) for name in tables} - kept
    m = t.models
    over = sa.or_(
        m.c.published_at.is_not(None),
        m.c.created_at < sa.func.now() - sa.text(f"interval '{_LEFTOVER_AFTER}'"),
    )
    return sorted(
        connection.scalars(
            sa.select(m.c.model_version).where(m.c.model_version.in_(versions), over)
        )
    )


def _retire_one(connection: Connection, version: int, log: Log) -> bool:
    if _may_be_read(connection, version):
        log(f"version {version} is kept for now: an open transaction may still read it")
        return False
    name = pg.Identifier(table_name(version))
    try:
        pending = connection.scalar(
            sa.text("SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass(:name)"),
            {"name": f"mf.{table_name(version)}"},
        )
        if pending is not None:
            _run(
                connection,
                "ALTER TABLE mf.recommendation_rows DETACH PARTITION mf.{} "
                + ("FINALIZE" if pending else "CONCURRENTLY"),
                name,
            )
        _run(connection, "DROP TABLE mf.{}", name)
    except (DatabaseError, sa.exc.DBAPIError) as error:
        if isinstance(error, sa.exc.DBAPIError) and getattr(error.orig, "pgcode", "") != "55P03":
            raise
        log(f"version {version} is kept for now: its table is in use ({_DETACH_TIMEOUT})")
        return False
    for table in (t.popular_items, t.similar_items):
        connection.execute(sa.delete(table).where(table.c.model_version == version))
    state = {"state": "retired", "retired_at": sa.func.now()}
    connection.execute(sa.update(t.models).where(t.models.c.model_version == version).values(state))
    return True


def _may_be_read(connection: Connection, version: int) -> bool:
    """Whether a transaction is open that began before the version was last replaced.

    Its snapshot may still show the version as live. A session whose start can't be seen (no pg_read_all_stats) counts.
    """
    return bool(
        connection.scalar(
            sa.text("""
                SELECT EXISTS (
                  SELECT FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid()
                    AND backend_type IS DISTINCT FROM 'autovacuum worker'
                    AND (xact_start <= (SELECT max(promoted_at) FROM mf.promotions WHERE previous_version = :version)
                         OR (state IS NULL AND usename <> current_user)))
            """),
            {"version": version},
        )
    )


def _by_last_promotion(connection: Connection) -> list[int]:
    """All versions that were ever live, the most recent first."""
    p = t.promotions
    return list(
        connection.scalars(
            sa.select(p.c.model_version)
            .group_by(p.c.model_version)
            .order_by(sa.func.max(p.c.promotion_id).desc())
        )
    )


def _version_of(name: str) -> int:
    found = _PARTITION.search(name)
    if found is None:
        raise VerificationError(
            f"expected tables named recommendation_rows_v<version> in schema mf, found {name!r}; remove or rename it."
        )
    return int(found.group(1))


def _run(connection: Connection, template: str, *parts: pg.Composable) -> None:
    """Run a statement with quoted identifiers and literals: utility statements take no bound parameters."""
    statement = pg.SQL(template).format(*parts)
    with psycopg2_cursor(connection) as cursor:
        connection.exec_driver_sql(statement.as_string(cursor))
