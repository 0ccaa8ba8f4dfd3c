"""Which versions are kept, whose lists may go, and whose artifacts: read, never written."""

from collections.abc import Collection
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mf_core.warehouse import tables as t
from mf_core.warehouse.schema import sql
from mf_core.warehouse.versions import began_before, by_last_promotion, is_dead

# What was live when each of the last weeks ended; a rollback counts as a publication does.
_LIVE_AT_THE_END_OF_A_WEEK = """
SELECT (
    SELECT promotions.model_version
    FROM {mf}.promotions
    WHERE promotions.promoted_at AT TIME ZONE 'UTC'
        < date_trunc('week', now() AT TIME ZONE 'UTC') - past.n * interval '7 days'
    ORDER BY promotions.promotion_id DESC
    LIMIT 1
)
FROM generate_series(0, :weeks - 1) AS past (n)
"""

# `xmin` of the row is the transaction that wrote it, which is the one that replaced the version. A
# snapshot sees what that one did unless its own oldest running transaction is as old or older. A
# session whose snapshot can't be seen (no pg_read_all_stats) counts as having an old one.
_SNAPSHOT_FROM_BEFORE = """
WITH replacement AS (
    SELECT age(promotions.xmin) AS age
    FROM {mf}.promotions
    WHERE promotions.previous_version = :version
    ORDER BY promotions.promotion_id DESC
    LIMIT 1
)
SELECT EXISTS (
    SELECT
    FROM pg_stat_activity AS session, replacement
    WHERE session.datname = current_database()
        AND session.pid <> pg_backend_pid()
        AND session.backend_type IS DISTINCT FROM 'autovacuum worker'
        AND (
            age(session.backend_xmin) >= replacement.age
            OR NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
                AND session.usename <> current_user
        )
)
"""


def kept(
    connection: Connection, attached: Collection[int], keep_versions: int, keep_weeks: int
) -> set[int]:
    """Return the versions whose lists are kept.

    Those are the last `keep_versions` that went live, and of each of the `keep_weeks` weeks (from
    Monday, UTC) before this one the version that was live at its end.

    Args:
        connection: a transaction on the warehouse.
        attached: versions that have their lists.
        keep_versions: at least 1, which is the live one.
        keep_weeks: 0 for none.
    """
    with_lists = [version for version in by_last_promotion(connection) if version in attached]
    weekly = connection.scalars(sql(connection, _LIVE_AT_THE_END_OF_A_WEEK), {"weeks": keep_weeks})
    return {*with_lists[:keep_versions], *weekly} & set(attached)


def retirable(
    connection: Connection, versions: Collection[int], kept: Collection[int], older_than: timedelta
) -> list[int]:
    """Return those of `versions` whose lists may go, oldest first, and that are not marked yet.

    They are not `kept`, and were published before, or belong to a run that began and was last
    judged longer ago than `older_than`.
    """
    m = t.models
    not_kept = set(versions) - set(kept)
    was_live = m.c.published_at.is_not(None)
    statement = sa.select(m.c.model_version).where(
        m.c.model_version.in_(not_kept),
        m.c.retired_at.is_(None),
        sa.or_(was_live, is_dead(older_than)),
    )
    return sorted(connection.scalars(statement))


def marked(connection: Connection) -> set[int]:
    """Return the versions whose lists are gone, or are about to go."""
    m = t.models
    return set(connection.scalars(sa.select(m.c.model_version).where(m.c.retired_at.is_not(None))))


def may_be_read(connection: Connection, model_version: int) -> bool:
    """Say whether a transaction may still see `model_version` as the live one.

    That is one with a snapshot from before the commit that last replaced the version. Call it
    under `lock_live`, so that no such commit is under way.
    """
    found = connection.scalar(sql(connection, _SNAPSHOT_FROM_BEFORE), {"version": model_version})
    return found is True


def published_with_artifacts(connection: Connection) -> list[int]:
    """Return the versions that were ever published and whose artifacts are kept."""
    m = t.models
    a = t.model_artifacts
    with_artifacts = sa.exists().where(a.c.model_version == m.c.model_version)
    statement = sa.select(m.c.model_version).where(m.c.published_at.is_not(None), with_artifacts)
    return list(connection.scalars(statement))


def forgettable(
    connection: Connection, kept: Collection[int], days: int, *, stored: Collection[int]
) -> list[int]:
    """Return the versions, not `kept`, that are older than `days` days and have artifacts.

    `stored` are those of which some lie in the store: a run that was killed has none on record.
    """
    m = t.models
    a = t.model_artifacts
    on_record = sa.exists().where(a.c.model_version == m.c.model_version)
    with_artifacts = sa.or_(on_record, m.c.model_version.in_(stored))
    old = began_before(timedelta(days=days))
    statement = sa.select(m.c.model_version).where(
        old, with_artifacts, m.c.model_version.not_in(kept)
    )
    return list(connection.scalars(statement))
