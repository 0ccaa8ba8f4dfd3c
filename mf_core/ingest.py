"""Ratings, items and users from the configured source into Postgres.

    source -> chunks -> COPY into a staging table -> one row per (user, item) -> merge into mf.ratings

All of it happens in one transaction under one lock, and nothing is written to `mf.ratings` before every check has passed: a
batch that is refused, or a process that dies, leaves the ratings as they were.

Of several ratings for one (user, item) the latest wins: an unknown date loses to a known one, and of equal dates the later
line wins. A later batch counts as later lines. With `data.ingest_mode` replace, the source is the truth.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
import sqlalchemy as sa
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection, Engine

from mf_core.config import Config
from mf_core.errors import InputError
from mf_core.records import IngestReport
from mf_core.sources.chunks import RejectedRow
from mf_core.sources.metadata import Metadata, MetadataRow, read_items, read_users
from mf_core.sources.source import RatingsSource, open_source
from mf_core.warehouse import transaction
from mf_core.warehouse.engine import copy_table, psycopg2_cursor
from mf_core.warehouse.tables import ingest_batches

Log = Callable[[str], None]

INGEST_LOCK = 0x6D66_0001
"""Advisory lock (of a transaction) that whoever writes mf.ratings holds."""

_MAX_KEPT_REJECTS = 1_000_000
_REJECTS_IN_MESSAGE = 5

_STAGE = """
CREATE TEMPORARY TABLE staged (
    seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    user_id text COLLATE "C" NOT NULL,
    item_id text COLLATE "C" NOT NULL,
    rating double precision NOT NULL,
    rated_us bigint,
    side text
) ON COMMIT DROP
"""

_SKIP_FORGOTTEN = "DELETE FROM staged WHERE user_id IN (SELECT user_id FROM mf.forgotten_users)"

_KEEP_LATEST = """
CREATE TEMPORARY TABLE latest ON COMMIT DROP AS
SELECT DISTINCT ON (user_id, item_id)
    user_id, item_id, rating, timestamptz 'epoch' + rated_us * interval '1 microsecond' AS rated_at, side
FROM staged
ORDER BY user_id, item_id, rated_us DESC NULLS LAST, seq DESC
"""

_COUNT_GONE = """
SELECT count(*), count(*) FILTER (WHERE NOT EXISTS (
    SELECT FROM latest AS l WHERE l.user_id = r.user_id AND l.item_id = r.item_id
))
FROM mf.ratings AS r
"""

_REMOVE_GONE = """
DELETE FROM mf.ratings AS r
WHERE NOT EXISTS (SELECT FROM latest AS l WHERE l.user_id = r.user_id AND l.item_id = r.item_id)
"""

_UPDATE = """
UPDATE mf.ratings AS r
SET rating = l.rating, rated_at = l.rated_at, side = l.side, batch_id = :batch_id
FROM latest AS l
WHERE r.user_id = l.user_id AND r.item_id = l.item_id
    AND (r.rating, r.rated_at, r.side) IS DISTINCT FROM (l.rating, l.rated_at, l.side)
    AND (:replace OR r.rated_at IS NULL OR l.rated_at >= r.rated_at)
"""

_INSERT = """
INSERT INTO mf.ratings (user_id, item_id, rating, rated_at, side, batch_id)
SELECT l.user_id, l.item_id, l.rating, l.rated_at, l.side, :batch_id
FROM latest AS l
WHERE NOT EXISTS (SELECT FROM mf.ratings AS r WHERE r.user_id = l.user_id AND r.item_id = l.item_id)
"""

# Merging a file twice is idle unless the table was replaced in between; replacing is idle only right after itself.
_SAME_AGAIN = """
SELECT max(batch_id)
FROM mf.ingest_batches
WHERE state = 'loaded' AND fingerprint = :fingerprint AND EXISTS (SELECT FROM mf.ratings)
    AND CASE WHEN :replace
        THEN mode = 'replace' AND batch_id = (SELECT max(batch_id) FROM mf.ingest_batches WHERE state = 'loaded')
        ELSE batch_id >= coalesce(
            (SELECT max(batch_id) FROM mf.ingest_batches WHERE state = 'loaded' AND mode = 'replace'), 0)
    END
"""

_STAGE_METADATA = (
    'CREATE TEMPORARY TABLE {} (id text COLLATE "C", title text, attributes text) ON COMMIT DROP'
)

_UPSERT_ITEMS = """
INSERT INTO mf.items AS i (item_id, title, attributes)
SELECT id, title, attributes::jsonb FROM staged_items
ON CONFLICT (item_id) DO UPDATE SET title = excluded.title, attributes = excluded.attributes
WHERE (i.title, i.attributes) IS DISTINCT FROM (excluded.title, excluded.attributes)
"""

_UPSERT_USERS = """
INSERT INTO mf.users AS u (user_id, attributes)
SELECT id, attributes::jsonb FROM staged_users WHERE id NOT IN (SELECT user_id FROM mf.forgotten_users)
ON CONFLICT (user_id) DO UPDATE SET attributes = excluded.attributes
WHERE u.attributes IS DISTINCT FROM excluded.attributes
"""

_REMOVE_GONE_METADATA = {
    "items": "DELETE FROM mf.items WHERE NOT EXISTS (SELECT FROM staged_items WHERE id = item_id)",
    "users": "DELETE FROM mf.users WHERE NOT EXISTS (SELECT FROM staged_users WHERE id = user_id)",
}


@dataclass
class _Batch:
    """A batch while it is loaded."""

    batch_id: int
    rows_read: int = 0
    rows_rejected: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    refusal: str = ""


def ingest(
    engine: Engine, config: Config, now: datetime, log: Log, environ: Mapping[str, str] = os.environ
) -> IngestReport:
    """Load the configured source's ratings, and the items and users beside them, and say what changed.

    Args:
        engine: the warehouse, as mf_writer.
        config: its sections `source` and `data` are used.
        now: the current time (with a zone); later dates are bad rows.
        log: takes a line of progress.
        environ: where the source database's URL and MF_CACHE_DIR are looked up.

    Raises:
        InputError: the source was refused; the ratings are as they were. Bad rows are in mf.rejected_ratings.
        DatabaseError: Postgres, or the source's database, did not answer.
    """
    started = time.monotonic()
    with open_source(config, environ) as source:
        items = read_items(source.items(), config.source) if source.items else None
        users = read_users(source.users(), config.source) if source.users else None
        with transaction(engine) as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": INGEST_LOCK})
            same = _find_same(connection, source, config)
            batch = _Batch(same) if same else _load(connection, source, config, now, log)
            if not batch.refusal:
                _merge_metadata(connection, items, users, config, log)
            report = _report(
                connection, batch, source, already_ingested=bool(same), started=started
            )
    if batch.refusal:
        raise InputError(batch.refusal)
    log(_summary(report))
    return report


def _find_same(connection: Connection, source: RatingsSource, config: Config) -> int | None:
    values = {"fingerprint": source.fingerprint, "replace": config.data.ingest_mode == "replace"}
    same: int | None = connection.scalar(sa.text(_SAME_AGAIN), values)
    return same


def _load(
    connection: Connection, source: RatingsSource, config: Config, now: datetime, log: Log
) -> _Batch:
    batch = _Batch(_insert_batch(connection, source, config, now))
    _stage(connection, source, config, now, batch, log)
    batch.refusal = _refuse_rejects(batch, source, config)
    if not batch.refusal:
        _merge(connection, batch, source, config)
    total = connection.scalar(sa.text("SELECT count(*) FROM mf.ratings"))
    connection.execute(
        sa.update(ingest_batches)
        .where(ingest_batches.c.batch_id == batch.batch_id)
        .values(
            state="refused" if batch.refusal else "loaded",
            rows_read=batch.rows_read,
            rows_rejected=batch.rows_rejected,
            **batch.counts,
            total_ratings=total,
            finished_at=sa.func.clock_timestamp(),
        )
    )
    return batch


def _insert_batch(
    connection: Connection, source: RatingsSource, config: Config, now: datetime
) -> int:
    statement = sa.insert(ingest_batches).values(
        source_uri=source.uri,
        content_sha256=source.content_sha256,
        fingerprint=source.fingerprint,
        mode=config.data.ingest_mode,
        state="refused",
        started_at=now,
        finished_at=now,
    )
    return int(connection.execute(statement.returning(ingest_batches.c.batch_id)).scalar_one())


def _stage(
    connection: Connection,
    source: RatingsSource,
    config: Config,
    now: datetime,
    batch: _Batch,
    log: Log,
) -> None:
    connection.execute(sa.text(_STAGE))
    for name, chunk in source.chunks(config, now):
        copy_table(connection, ("staged",), chunk.rows.drop_columns(["line"]))
        kept = max(0, _MAX_KEPT_REJECTS - batch.rows_rejected)
        _keep_rejects(connection, batch.batch_id, name, chunk.rejected[:kept])
        batch.rows_read += chunk.n_read
        batch.rows_rejected += len(chunk.rejected)
        missing = _REJECTS_IN_MESSAGE - len(batch.examples)
        batch.examples += [f"{name}:{row.line}: {row.reason}" for row in chunk.rejected[:missing]]
        log(f"{name}: {batch.rows_read:,} rows read, {batch.rows_rejected:,} of them bad")
    if not batch.rows_read:
        raise InputError(
            f"{source.uri}: expected ratings, got no row. Check what writes it, or the query."
        )


def _keep_rejects(
    connection: Connection, batch_id: int, name: str, rejected: Iterable[RejectedRow]
) -> None:
    rows = [
        {"batch_id": batch_id, "file": name, "line": r.line, "raw": r.raw, "reason": r.reason}
        for r in rejected
    ]
    if rows:
        copy_table(connection, ("mf", "rejected_ratings"), pa.Table.from_pylist(rows))


def _refuse_rejects(batch: _Batch, source: RatingsSource, config: Config) -> str:
    share = batch.rows_rejected / batch.rows_read
    if share <= config.data.max_rejected_share:
        return ""
    return (
        f"{source.uri}: {batch.rows_rejected:,} of {batch.rows_read:,} rows ({share:.2%}) are bad, more than "
        f"data.max_rejected_share {config.data.max_rejected_share:.2%} allows: {'; '.join(batch.examples)}. "
        f"The ratings are unchanged; all bad rows are in mf.rejected_ratings, batch {batch.batch_id}. "
        "Repair the source, or check data.scale_low and data.scale_high."
    )


def _merge(connection: Connection, batch: _Batch, source: RatingsSource, config: Config) -> None:
    """Bring the staged rows into mf.ratings, or set the batch's refusal."""
    replace = config.data.ingest_mode == "replace"
    connection.execute(sa.text("SET LOCAL work_mem = '256MB'"))
    forgotten = connection.execute(sa.text(_SKIP_FORGOTTEN)).rowcount
    latest = connection.execute(sa.text(_KEEP_LATEST)).rowcount
    connection.execute(sa.text("ANALYZE latest"))
    if replace:
        batch.refusal = _refuse_removal(connection, batch, source, config)
        if batch.refusal:
            return
    removed = connection.execute(sa.text(_REMOVE_GONE)).rowcount if replace else 0
    values = {"batch_id": batch.batch_id, "replace": replace}
    updated = connection.execute(sa.text(_UPDATE), values).rowcount
    inserted = connection.execute(sa.text(_INSERT), values).rowcount
    batch.counts = {
        "rows_duplicate": batch.rows_read - batch.rows_rejected - forgotten - latest,
        "rows_inserted": inserted,
        "rows_updated": updated,
        "rows_unchanged": latest - inserted - updated,
        "rows_removed": removed,
    }


def _refuse_removal(
    connection: Connection, batch: _Batch, source: RatingsSource, config: Config
) -> str:
    total, gone = connection.execute(sa.text(_COUNT_GONE)).one()
    if not total or gone / total <= config.data.max_removed_share:
        return ""
    return (
        f"{source.uri}: data.ingest_mode replace would remove {gone:,} of {total:,} ratings ({gone / total:.1%}), more than "
        f"data.max_removed_share {config.data.max_removed_share:.1%} allows. The ratings are unchanged (batch {batch.batch_id}). "
        "Check that the source is complete, or raise the limit for this run."
    )


def _report(
    connection: Connection,
    batch: _Batch,
    source: RatingsSource,
    *,
    already_ingested: bool,
    started: float,
) -> IngestReport:
    counts = ("rows_duplicate", "rows_inserted", "rows_updated", "rows_unchanged", "rows_removed")
    return IngestReport(
        batch_id=batch.batch_id,
        source_uri=source.uri,
        content_sha256=source.content_sha256,
        already_ingested=already_ingested,
        rows_read=batch.rows_read,
        rows_rejected=batch.rows_rejected,
        **{name: batch.counts.get(name, 0) for name in counts},
        total_ratings=int(connection.scalar(sa.text("SELECT count(*) FROM mf.ratings")) or 0),
        seconds=time.monotonic() - started,
    )


def _summary(report: IngestReport) -> str:
    if report.already_ingested:
        return f"{report.source_uri} is loaded already (batch {report.batch_id}); {report.total_ratings:,} ratings"
    return (
        f"{report.source_uri}: {report.rows_read:,} rows read, {report.rows_rejected:,} bad, "
        f"{report.rows_duplicate:,} duplicate, {report.rows_inserted:,} new, "
        f"{report.rows_updated:,} changed, {report.rows_removed:,} removed; "
        f"{report.total_ratings:,} ratings after {report.seconds:.1f} s (batch {report.batch_id})"
    )


def _merge_metadata(
    connection: Connection, items: Metadata | None, users: Metadata | None, config: Config, log: Log
) -> None:
    replace = config.data.ingest_mode == "replace"
    for kind, metadata, upsert in (
        ("items", items, _UPSERT_ITEMS),
        ("users", users, _UPSERT_USERS),
    ):
        if metadata is None and not replace:
            continue
        known = metadata or Metadata((), 0)
        name = f"staged_{kind}"
        with psycopg2_cursor(connection) as cursor:
            cursor.execute(pg.SQL(_STAGE_METADATA).format(pg.Identifier(name)))
        copy_table(connection, (name,), _metadata_table(known.rows))
        changed = connection.execute(sa.text(upsert)).rowcount
        removed = (
            connection.execute(sa.text(_REMOVE_GONE_METADATA[kind])).rowcount if replace else 0
        )
        log(
            f"{kind}: {len(known.rows):,} read, {changed:,} new or changed, {removed:,} removed, {known.skipped:,} lines skipped"
        )


def _metadata_table(rows: Iterable[MetadataRow]) -> pa.Table:
    columns = [(row.id, row.title, json.dumps(row.attributes, ensure_ascii=False)) for row in rows]
    schema = pa.schema([(name, pa.string()) for name in ("id", "title", "attributes")])
    return pa.Table.from_pylist(
        [dict(zip(schema.names, column, strict=True)) for column in columns], schema=schema
    )
