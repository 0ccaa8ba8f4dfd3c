"""Which versions are kept, whose lists may go, and whose artifacts: read, never written."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mf_core.warehouse import tables as t
from mf_core.warehouse.history import by_last_promotion
from mf_core.warehouse.schema import sql
from mf_core.warehouse.versions import began_before, is_dead

LEFTOVER_AFTER = timedelta(days=2)
"""When a run that has not ended counts as dead: longer than any run may take."""

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
# snapshot sees what that one did unless its own oldest running transaction is as old or older.
# Where snapshots can't be seen (no pg_read_all_stats), any transaction counts as having an old one;
# its lock on its own number (`virtualxid`) tells that there is one. Another catalogue's writer
# reads nothing here. Its readers may, by a view or a function of somebody who has the right to.
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
                AND session.pid IN (SELECT pid FROM pg_locks WHERE locktype = 'virtualxid')
        )
        AND NOT EXISTS (
            SELECT FROM pg_class AS lists
            WHERE lists.relname = 'recommendation_rows'
                AND lists.relowner = session.usesysid
                AND NOT has_schema_privilege(lists.relowner, '{mf}', 'USAGE')
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


@dataclass(frozen=True)
class Terms:
    """How long is kept what no list of readers needs.

    Attributes:
        recent_days: a version that was live: its evaluated model and its snapshot, since later
            nights are compared with it.
        left_days: what a run has left that did not go live, counted from its beginning or from the
            last verdict on it.
    """

    recent_days: int
    left_days: int


def forgettable(
    connection: Connection, kept: Collection[int], terms: Terms, *, stored: Collection[int]
) -> list[int]:
    """Return the versions of whose artifacts nothing is needed any more, and that have some.

    `kept` have their lists. `stored` are those of which some lie in the store: a run that was
    killed has none on record.
    """
    m = t.models
    a = t.model_artifacts
    on_record = sa.exists().where(a.c.model_version == m.c.model_version)
    in_store = m.c.model_version.in_(stored)

    statement = sa.select(m.c.model_version).where(
        _is_over(kept, terms),
        sa.or_(on_record, in_store),
    )
    return sorted(connection.scalars(statement))


def with_useless_refit(connection: Connection, kept: Collection[int]) -> list[int]:
    """Return the versions that have a refit on record, and whose lists are gone for good.

    Every version that ever had lists of a refit has it on record; `kept` have their lists.
    """
    m = t.models
    a = t.model_artifacts
    with_refit = sa.exists().where(a.c.model_version == m.c.model_version, a.c.stage == "refit")
    statement = sa.select(m.c.model_version).where(
        m.c.model_version.not_in(kept),
        m.c.retired_at.is_not(None),
        with_refit,
    )
    return sorted(connection.scalars(statement))


def unused_snapshots(
    connection: Connection, kept: Collection[int], terms: Terms, *, stored: Collection[str]
) -> list[str]:
    """Return those of the `stored` snapshots that no version needs, and that no run has just taken.

    A run takes its snapshot before it has a version.
    """
    s = t.snapshots
    m = t.models
    needed = sa.exists().where(m.c.snapshot_id == s.c.snapshot_id, ~_is_over(kept, terms))
    statement = sa.select(s.c.snapshot_id).where(
        s.c.snapshot_id.in_(stored),
        s.c.used_at < sa.func.now() - LEFTOVER_AFTER,
        ~needed,
    )
    return sorted(connection.scalars(statement))


def _is_over(kept: Collection[int], terms: Terms) -> sa.ColumnElement[bool]:
    """Return whether nothing comes of a version any more, and nothing is compared with it."""
    m = t.models
    was_live = m.c.published_at.is_not(None)
    compared_no_more = sa.and_(was_live, began_before(timedelta(days=terms.recent_days)))
    given_up = sa.and_(~was_live, is_dead(timedelta(days=terms.left_days)))
    return sa.and_(m.c.model_version.not_in(kept), sa.or_(compared_no_more, given_up))
