"""Ratings, items and users from the configured source into Postgres.

    source -> chunks -> COPY into a staging table -> one row per pair -> merge into mf.ratings

Events go into `mf.events` on the way, and the rows are the sums of what is there (`events`).

All of it happens in one transaction under one lock, and nothing is written to `mf.ratings` before
every check has passed: a batch that is refused, or a process that dies, leaves the ratings as they
were.

Of several ratings for one (user, item) the latest wins: an unknown date loses to a known one, and
of equal dates the later line wins. A later batch counts as later lines. With `data.ingest_mode`
replace, the source is the truth.
"""

import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mf_core.config import Config
from mf_core.errors import InputError
from mf_core.intake.advice import Reading, advice
from mf_core.intake.batches import (
    Batch,
    count_ratings,
    find_same,
    finish_batch,
    insert_batch,
    is_replacement,
)
from mf_core.intake.events import Latest, add_up, clear_events
from mf_core.intake.metadata import merge_metadata
from mf_core.intake.parts import (
    new_or_all,
    remember_parts,
    remember_stamps,
    require_no_doubt,
    require_still_known,
    skipped_note,
)
from mf_core.intake.rejects import keep_rejects
from mf_core.intake.repeats import are_counted, find_same_events, require_same_kind
from mf_core.records import IngestReport
from mf_core.sources.known import Known
from mf_core.sources.metadata import read_items, read_users
from mf_core.sources.reach import Reach
from mf_core.sources.source import RatingsSource, open_source
from mf_core.warehouse import transaction
from mf_core.warehouse.engine import copy_table, limit_lock_waits
from mf_core.warehouse.problems import LOCK_NOT_AVAILABLE
from mf_core.warehouse.schema import schema_of, sql

Log = Callable[[str], None]

WAIT_FOR_ANOTHER = timedelta(minutes=30)
"""How long an ingest waits for another one to end."""

_MAX_KEPT_REJECTS = 1_000_000
_REJECTS_IN_MESSAGE = 5

# `seq` is the order of the lines, which decides between ratings of one date. The collation is that
# of mf.ratings, so that both sides of a join are in one order.
_STAGE = """
CREATE TEMPORARY TABLE staged (
    seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    user_id text COLLATE "C" NOT NULL,
    item_id text COLLATE "C" NOT NULL,
    rating double precision NOT NULL,
    rated_us bigint,
    side text,
    event text COLLATE "C"
) ON COMMIT DROP
"""

# Who asked to be forgotten stays forgotten, whatever the source still holds.
_SKIP_FORGOTTEN = """
DELETE FROM staged
WHERE user_id IN (SELECT user_id FROM {mf}.forgotten_users)
"""

# One row per pair: the latest date, and of equal dates the later line; unknown dates come last.
_KEEP_LATEST = """
CREATE TEMPORARY TABLE latest ON COMMIT DROP AS
SELECT DISTINCT ON (user_id, item_id)
    user_id,
    item_id,
    rating,
    timestamptz 'epoch' + rated_us * interval '1 microsecond' AS rated_at,
    side
FROM staged
ORDER BY user_id, item_id, rated_us DESC NULLS LAST, seq DESC
"""

# How much a replacement would remove, counted before anything goes.
_COUNT_GONE = """
SELECT
    count(*),
    count(*) FILTER (WHERE NOT EXISTS (
        SELECT FROM latest AS l WHERE l.user_id = r.user_id AND l.item_id = r.item_id
    ))
FROM {mf}.ratings AS r
"""

_REMOVE_GONE = """
DELETE FROM {mf}.ratings AS r
WHERE NOT EXISTS (
    SELECT FROM latest AS l WHERE l.user_id = r.user_id AND l.item_id = r.item_id
)
"""

# A row that would not change is left alone: rewriting it would cost a dead row, and say that the
# batch changed it. When merging, an older rating does not replace a newer one, and an unknown date
# (NULL is not >=) replaces an unknown one only.
_UPDATE = """
UPDATE {mf}.ratings AS r
SET rating = l.rating, rated_at = l.rated_at, side = l.side, batch_id = :batch_id
FROM latest AS l
WHERE r.user_id = l.user_id AND r.item_id = l.item_id
    AND (r.rating, r.rated_at, r.side) IS DISTINCT FROM (l.rating, l.rated_at, l.side)
    AND (:replace OR r.rated_at IS NULL OR l.rated_at >= r.rated_at)
"""

_INSERT = """
INSERT INTO {mf}.ratings (user_id, item_id, rating, rated_at, side, batch_id)
SELECT l.user_id, l.item_id, l.rating, l.rated_at, l.side, :batch_id
FROM latest AS l
WHERE NOT EXISTS (
    SELECT FROM {mf}.ratings AS r WHERE r.user_id = l.user_id AND r.item_id = l.item_id
)
"""


# Only who may write the table can take this lock; any role could take an advisory one.
_LOCK = "LOCK TABLE {mf}.ingest_batches IN SHARE ROW EXCLUSIVE MODE"


def ingest(
    engine: Engine,
    config: Config,
    now: datetime,
    log: Log,
    environ: Mapping[str, str] = os.environ,
    *,
    reach: Reach | None = None,
) -> IngestReport:
    """Load the configured source's ratings, and its items and users, and say what changed.

    Args:
        engine: the warehouse, as mf_writer.
        config: its sections `source` and `data` are used.
        now: the current time (with a zone); later dates are bad rows.
        log: takes a line of progress.
        environ: where the source database's URL and MF_CACHE_DIR are looked up.
        reach: what the source may reach; None: anything, as it is the operator's.

    Raises:
        ConfigError: the source is beyond what whoever named it may reach.
        InputError: the source was refused; the ratings are as they were. Bad rows are in
            `mf.rejected_ratings`.
        DatabaseError: Postgres, or the source's database, did not answer.
    """
    load = partial(_load_new, engine, config, now, log, environ=environ, reach=reach)
    return new_or_all(engine, config, log, load)


def _load_new(
    engine: Engine,
    config: Config,
    now: datetime,
    log: Log,
    known: Known,
    *,
    environ: Mapping[str, str],
    reach: Reach | None,
) -> IngestReport:
    """Load what is not `known` of the source. Raises ReadAllError as well, with nothing written."""
    started = time.monotonic()
    with open_source(config, environ, reach, known) as source:
        # Metadata that can't be read refuse the source before anything is loaded.
        items = read_items(source.items(), config.source) if source.items else None
        users = read_users(source.users(), config.source) if source.users else None

        with transaction(engine) as connection:
            _wait_for_turn(connection, log)
            require_same_kind(connection, config)
            same = _find_same(connection, source, config)
            if not same:
                require_still_known(connection, source, known)
            batch = Batch(same) if same else _load(connection, source, config, now=now, log=log)
            if not batch.refusal:
                remember = remember_stamps if same else remember_parts
                remember(connection, source, config, batch)
                replace = is_replacement(config)
                batch.notes += merge_metadata(connection, items, users, replace=replace, log=log)
            report = _report(
                connection, config, batch, source, already_ingested=bool(same), started=started
            )

    # After the transaction: the refused batch and its bad rows are to stay in the database.
    if batch.refusal:
        raise InputError(batch.refusal)
    log(report.sentence())
    return report


def _wait_for_turn(connection: Connection, log: Log) -> None:
    """Wait until no other ingest is under way, and keep others waiting until this one ends."""
    try:
        with connection.begin_nested():
            connection.execute(sql(connection, f"{_LOCK} NOWAIT"))
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "pgcode", None) != LOCK_NOT_AVAILABLE:
            raise
        minutes = WAIT_FOR_ANOTHER / timedelta(minutes=1)
        log(
            f"{schema_of(connection)}.ingest_batches is locked, by another ingest; "
            f"waiting up to {minutes:g} minutes"
        )
        limit_lock_waits(connection, WAIT_FOR_ANOTHER)
        connection.execute(sql(connection, _LOCK))
        limit_lock_waits(connection)


def _row_count(
    connection: Connection, statement: str, values: Mapping[str, Any] | None = None
) -> int:
    """Execute `statement` and return how many rows it touched."""
    return connection.execute(sql(connection, statement), values).rowcount


def _find_same(connection: Connection, source: RatingsSource, config: Config) -> int | None:
    """Return the batch that loaded the same content, if loading it again would change nothing."""
    if config.source.reload:
        return None
    find = find_same_events if _are_events(config) else find_same
    return find(connection, source, config)


def _are_events(config: Config) -> bool:
    return config.data.kind == "events"


def _load(
    connection: Connection, source: RatingsSource, config: Config, now: datetime, log: Log
) -> Batch:
    """Load the source's ratings as a new batch, which may end as a refused one."""
    batch = Batch(insert_batch(connection, source, config, now))
    connection.execute(sa.text(_STAGE))
    # Where only the weights are news, there is nothing to read.
    if not (_are_events(config) and are_counted(connection, source, config)):
        _stage(connection, source, config, now=now, batch=batch, log=log)
        batch.refusal = _refuse_rejects(connection, batch, source, config)
        require_no_doubt(connection, batch, source, too_many_bad=bool(batch.refusal))

    if not batch.refusal:
        # A refusal on the way takes back what was written before it, and leaves the batch.
        merging = connection.begin_nested()
        batch.refusal = _merge(connection, batch, source, config)
        if batch.refusal:
            merging.rollback()
        else:
            merging.commit()

    finish_batch(connection, batch)
    return batch


def _stage(
    connection: Connection,
    source: RatingsSource,
    config: Config,
    *,
    now: datetime,
    batch: Batch,
    log: Log,
) -> None:
    """Copy the good rows into the staging table and the bad ones into `mf.rejected_ratings`."""
    if note := skipped_note(source):
        log(note)
    reading = Reading()
    for name, chunk in source.chunks(config, now):
        copy_table(connection, ("staged",), chunk.rows.drop_columns(["line"]))

        # Every bad row counts, but a file of nothing else must not fill the disk.
        still_kept = max(0, _MAX_KEPT_REJECTS - batch.rows_rejected)
        keep_rejects(connection, batch.batch_id, name, chunk.rejected[:still_kept])

        still_shown = _REJECTS_IN_MESSAGE - len(batch.examples)
        for row in chunk.rejected[:still_shown]:
            batch.examples.append(f"{name}:{row.line}: {row.reason}")

        batch.add(chunk)
        reading.add(name, chunk)
        skipped = f", {batch.rows_not_rated:,} not rated" if batch.rows_not_rated else ""
        log(f"{name}: {batch.rows_read:,} rows read, {batch.rows_rejected:,} of them bad{skipped}")

    batch.notes += reading.notes(config)
    batch.early = reading.early
    if not batch.rows_read and source.is_whole:
        raise InputError(
            f"{source.uri}: expected {config.data.kind}, got no row. "
            "Check what writes it, or the query."
        )


def _refuse_rejects(
    connection: Connection, batch: Batch, source: RatingsSource, config: Config
) -> str:
    """Return why the bad rows are too many, or an empty text."""
    share = batch.rows_rejected / max(1, batch.rows_read)
    limit = config.data.max_rejected_share
    if share <= limit:
        return ""
    return (
        f"{source.uri}: {batch.rows_rejected:,} of {batch.rows_read:,} rows ({share:.2%}) are bad, "
        f"more than data.max_rejected_share {limit:.2%} allows: {'; '.join(batch.examples)}. "
        "The ratings are unchanged; "
        f"all bad rows are in {schema_of(connection)}.rejected_ratings, batch {batch.batch_id}. "
        f"{advice(batch, config)}"
    )


def _merge(connection: Connection, batch: Batch, source: RatingsSource, config: Config) -> str:
    """Bring the staged rows into `mf.ratings`, or return why not."""
    # Room for the sort of all staged rows; the setting ends with the transaction.
    connection.execute(sa.text("SET LOCAL work_mem = '256MB'"))
    forgotten = _row_count(connection, _SKIP_FORGOTTEN)
    n_staged = batch.rows_read - batch.rows_rejected - batch.rows_not_rated - forgotten
    made = _make_latest(connection, batch, source, config)
    if made.refusal:
        return made.refusal
    batch.notes += made.notes
    # A new temporary table has no statistics, and autovacuum does not see it.
    connection.execute(sa.text("ANALYZE latest"))

    # Sums are of all events there are, so that none stays that is not among them.
    replace = is_replacement(config) or _are_events(config)
    if replace:
        refusal = _refuse_removal(connection, batch, source, config)
        if refusal:
            return refusal
        if not _are_events(config):
            clear_events(connection)

    values = {"batch_id": batch.batch_id, "replace": replace}
    latest = connection.scalar(sa.text("SELECT count(*) FROM latest")) or 0
    removed = _row_count(connection, _REMOVE_GONE) if replace else 0
    updated = _row_count(connection, _UPDATE, values)
    inserted = _row_count(connection, _INSERT, values)
    batch.counts = {
        "rows_duplicate": n_staged - made.n_rows,
        "rows_inserted": inserted,
        "rows_updated": updated,
        "rows_unchanged": latest - inserted - updated,
        "rows_removed": removed,
    }
    return ""


def _make_latest(
    connection: Connection, batch: Batch, source: RatingsSource, config: Config
) -> Latest:
    """Make the table `latest` of what is staged, or say why not."""
    if not _are_events(config):
        return Latest(n_rows=_row_count(connection, _KEEP_LATEST))
    return add_up(connection, source, config, is_read=batch.rows_read > 0)


def _refuse_removal(
    connection: Connection, batch: Batch, source: RatingsSource, config: Config
) -> str:
    """Return why a replacement would remove too much, or an empty text."""
    total, gone = connection.execute(sql(connection, _COUNT_GONE)).one()
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


def _report(
    connection: Connection,
    config: Config,
    batch: Batch,
    source: RatingsSource,
    *,
    already_ingested: bool,
    started: float,
) -> IngestReport:
    """Return what the batch did; one that was loaded before did nothing."""
    return IngestReport(
        batch_id=batch.batch_id,
        source_uri=source.uri,
        content_sha256=source.content_sha256,
        already_ingested=already_ingested,
        rows_read=batch.rows_read,
        rows_rejected=batch.rows_rejected,
        rows_duplicate=batch.counts.get("rows_duplicate", 0),
        rows_inserted=batch.counts.get("rows_inserted", 0),
        rows_updated=batch.counts.get("rows_updated", 0),
        rows_unchanged=batch.counts.get("rows_unchanged", 0),
        rows_removed=batch.counts.get("rows_removed", 0),
        total_ratings=count_ratings(connection),
        seconds=time.monotonic() - started,
        rows_not_rated=batch.rows_not_rated,
        kind=config.data.kind,
        notes="; ".join(batch.notes),
    )
