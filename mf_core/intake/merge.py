"""What is staged into `mf.ratings`: at once where it is empty, otherwise what is new or changed.

    staged -> latest, one row a pair -> compared with mf.ratings -> changed -> mf.ratings

Of several ratings for one (user, item) the latest wins: an unknown date loses to a known one, and
of equal dates the later line wins. A later batch counts as later lines.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mf_core.config import Config
from mf_core.intake.batches import Batch, count_ratings, is_replacement
from mf_core.intake.bulk import analyze_if_many, is_empty, key_built_last, rows_by_place
from mf_core.intake.events import add_up, clear_events
from mf_core.sources.source import RatingsSource
from mf_core.warehouse import tables as t
from mf_core.warehouse.schema import sql

# Who asked to be forgotten stays forgotten, whatever the source still holds.
_SKIP_FORGOTTEN = """
DELETE FROM staged
WHERE user_id IN (SELECT user_id FROM {mf}.forgotten_users)
"""

# One row per pair: the latest date, and of equal dates the later line; unknown dates come last.
_LATEST = """
SELECT DISTINCT ON (user_id, item_id)
    user_id,
    item_id,
    rating,
    timestamptz 'epoch' + rated_us * interval '1 microsecond' AS rated_at,
    side
FROM staged
ORDER BY user_id, item_id, rated_us DESC NULLS LAST, seq DESC
"""

_KEEP_LATEST = f"CREATE TEMPORARY TABLE latest ON COMMIT DROP AS {_LATEST}"

# In the order of the key, which is then built of sorted rows, or grows at its end.
_INSERT_ALL = """
INSERT INTO {mf}.ratings (user_id, item_id, rating, rated_at, side, batch_id)
SELECT l.user_id, l.item_id, l.rating, l.rated_at, l.side, :batch_id
FROM %s AS l
ORDER BY l.user_id, l.item_id
"""
_INSERT_LATEST = _INSERT_ALL % f"({_LATEST})"
_INSERT_SUMS = _INSERT_ALL % "latest"

# Each of them is the latest of its pair. The key sorts its own columns alone, which is cheaper.
_INSERT_STAGED = """
INSERT INTO {mf}.ratings (user_id, item_id, rating, rated_at, side, batch_id)
SELECT
    user_id,
    item_id,
    rating,
    timestamptz 'epoch' + rated_us * interval '1 microsecond',
    side,
    :batch_id
FROM staged
"""

# A row that would not change is left alone: rewriting it would cost a dead row, and say that the
# batch changed it. When merging, an older rating does not replace a newer one, and an unknown date
# (NULL is not >=) replaces an unknown one only.
_COMPARE = """
CREATE TEMPORARY TABLE changed ON COMMIT DROP AS
SELECT
    l.user_id, l.item_id, l.rating, l.rated_at, l.side, r.user_id IS NULL AS is_new, r.ctid AS place
FROM latest AS l
LEFT JOIN {mf}.ratings AS r ON r.user_id = l.user_id AND r.item_id = l.item_id
WHERE r.user_id IS NULL
    OR (
        (r.rating, r.rated_at, r.side) IS DISTINCT FROM (l.rating, l.rated_at, l.side)
        AND (:replace OR r.rated_at IS NULL OR l.rated_at >= r.rated_at)
    )
"""

_COUNT_NEW = "SELECT count(*) FROM changed WHERE is_new"

_REMOVE_GONE = """
DELETE FROM {mf}.ratings AS r
WHERE NOT EXISTS (
    SELECT FROM latest AS l WHERE l.user_id = r.user_id AND l.item_id = r.item_id
)
"""

# By the place where the comparison has seen them, which saves another pass over the table. The pair
# is named too: a place may belong to another row once somebody has removed this one.
_UPDATE = """
UPDATE {mf}.ratings AS r
SET rating = c.rating, rated_at = c.rated_at, side = c.side, batch_id = :batch_id
FROM changed AS c
WHERE r.ctid = c.place
    AND r.user_id = c.user_id
    AND r.item_id = c.item_id
    AND NOT c.is_new
"""

_INSERT_NEW = """
INSERT INTO {mf}.ratings (user_id, item_id, rating, rated_at, side, batch_id)
SELECT c.user_id, c.item_id, c.rating, c.rated_at, c.side, :batch_id
FROM changed AS c
WHERE c.is_new
ORDER BY c.user_id, c.item_id
"""


def is_first_load(connection: Connection, config: Config) -> bool:
    """Return whether ratings (no events) are about to fill an empty table."""
    return not _are_events(config) and is_empty(connection, t.ratings)


def merge(connection: Connection, batch: Batch, source: RatingsSource, config: Config) -> str:
    """Bring the staged rows into `mf.ratings`, or return why not.

    What was written before a refusal the caller takes back. The counts of `batch` are filled.
    """
    forgotten = _row_count(connection, _SKIP_FORGOTTEN)
    n_staged = batch.rows_read - batch.rows_rejected - batch.rows_not_rated - forgotten
    if _are_events(config):
        return _merge_sums(connection, batch, source, config, n_staged)

    if is_first_load(connection, config):
        _clear_other_kind(connection, config)
        statement = _INSERT_STAGED if batch.distinct else _INSERT_LATEST
        n_latest = _insert_all(connection, batch, statement)
    else:
        n_latest = _row_count(connection, _KEEP_LATEST)
        if refusal := _merge_latest(connection, batch, source, config, n_latest):
            return refusal
    batch.counts["rows_duplicate"] = n_staged - n_latest
    return ""


def _merge_sums(
    connection: Connection, batch: Batch, source: RatingsSource, config: Config, n_staged: int
) -> str:
    """Bring the sums of all events into `mf.ratings`, or return why not."""
    sums = add_up(connection, source, config, is_read=batch.rows_read > 0)
    if sums.refusal:
        return sums.refusal
    batch.notes += sums.notes
    if is_empty(connection, t.ratings):
        _insert_all(connection, batch, _INSERT_SUMS)
    elif refusal := _merge_latest(connection, batch, source, config, sums.n_pairs):
        return refusal
    batch.counts["rows_duplicate"] = n_staged - sums.n_sums
    return ""


def _insert_all(connection: Connection, batch: Batch, statement: str) -> int:
    """Fill the empty `mf.ratings`, and return how many rows it has."""
    with key_built_last(connection, t.ratings):
        n_rows = _row_count(connection, statement, {"batch_id": batch.batch_id})
    analyze_if_many(connection, t.ratings, n_rows, n_rows)
    _count(batch, n_rows, inserted=n_rows)
    return n_rows


def _merge_latest(
    connection: Connection, batch: Batch, source: RatingsSource, config: Config, n_latest: int
) -> str:
    """Bring the rows of `latest` into `mf.ratings`, which has some already, or return why not."""
    # Sums are of all events there are, so that none stays that is not among them.
    replace = is_replacement(config) or _are_events(config)
    values = {"batch_id": batch.batch_id, "replace": replace}
    # A new temporary table has no statistics, and autovacuum does not see it.
    connection.execute(sa.text("ANALYZE latest"))
    n_changed = _row_count(connection, _COMPARE, values)
    connection.execute(sa.text("ANALYZE changed"))
    n_new = connection.scalar(sa.text(_COUNT_NEW)) or 0

    total = count_ratings(connection)
    removed = 0
    if replace:
        # The others of `latest` are there; whatever is not among them would go.
        gone = total - (n_latest - n_new)
        if refusal := _refuse_removal(batch, source, config, total, gone):
            return refusal
        _clear_other_kind(connection, config)
        removed = _row_count(connection, _REMOVE_GONE)

    updated = 0
    if n_changed > n_new:
        with rows_by_place(connection):
            updated = _row_count(connection, _UPDATE, values)
    inserted = _row_count(connection, _INSERT_NEW, values) if n_new else 0
    total += inserted - removed
    analyze_if_many(connection, t.ratings, inserted + updated + removed, total)
    _count(
        batch,
        total,
        inserted=inserted,
        updated=updated,
        removed=removed,
        unchanged=n_latest - inserted - updated,
    )
    return ""


def _count(
    batch: Batch,
    total: int,
    *,
    inserted: int,
    updated: int = 0,
    removed: int = 0,
    unchanged: int = 0,
) -> None:
    """Write into `batch` what was done."""
    batch.total_ratings = total
    batch.counts |= {
        "rows_inserted": inserted,
        "rows_updated": updated,
        "rows_unchanged": unchanged,
        "rows_removed": removed,
    }


def _are_events(config: Config) -> bool:
    return config.data.kind == "events"


def _clear_other_kind(connection: Connection, config: Config) -> None:
    """Remove the events that ratings take the place of."""
    if is_replacement(config) and not _are_events(config):
        clear_events(connection)


def _row_count(
    connection: Connection, statement: str, values: Mapping[str, Any] | None = None
) -> int:
    """Execute `statement` and return how many rows it touched."""
    return connection.execute(sql(connection, statement), values).rowcount


def _refuse_removal(
    batch: Batch, source: RatingsSource, config: Config, total: int, gone: int
) -> str:
    """Return why a replacement would remove too much, or an empty text."""
    limit = config.data.max_removed_share
    if not total or gone / total <= limit:
        return ""
    weights = " and what data.event_weights leaves out" if _are_events(config) else ""
    return (
        f"{source.uri}: data.ingest_mode {config.data.ingest_mode} would remove {gone:,} of "
        f"{total:,} ratings "
        f"({gone / total:.1%}), more than data.max_removed_share {limit:.1%} allows. "
        f"The ratings are unchanged (batch {batch.batch_id}). "
        f"Check that the source is complete{weights}, or raise the limit for this run."
    )
