"""Ratings, items and users from the configured source into Postgres.

    source -> chunks -> COPY into a staging table (`staging`) -> mf.ratings (`merge`)

Events go into `mf.events` on the way, and the rows are the sums of what is there (`events`).

All of it happens in one transaction under one lock, and nothing is written to `mf.ratings` before
every check has passed: a batch that is refused, or a process that dies, leaves the ratings as they
were.

With `data.ingest_mode` replace, the source is the truth.
"""

import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mf_core.config import Config
from mf_core.errors import InputError
from mf_core.intake.advice import advice
from mf_core.intake.batches import (
    Batch,
    find_same,
    finish_batch,
    insert_batch,
    is_replacement,
    total_of,
)
from mf_core.intake.bulk import plan_for_all_rows
from mf_core.intake.merge import is_first_load, merge
from mf_core.intake.metadata import merge_metadata
from mf_core.intake.parts import (
    new_or_all,
    remember_parts,
    remember_stamps,
    require_no_doubt,
    require_still_known,
)
from mf_core.intake.repeats import are_counted, find_same_events, require_same_kind
from mf_core.intake.staging import make_stage, stage
from mf_core.records import IngestReport
from mf_core.sources.known import Known
from mf_core.sources.metadata import read_items, read_users
from mf_core.sources.reach import Reach
from mf_core.sources.source import RatingsSource, open_source
from mf_core.warehouse import transaction
from mf_core.warehouse.engine import limit_lock_waits
from mf_core.warehouse.problems import LOCK_NOT_AVAILABLE
from mf_core.warehouse.schema import schema_of, sql

Log = Callable[[str], None]

WAIT_FOR_ANOTHER = timedelta(minutes=30)
"""How long an ingest waits for another one to end."""

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
            plan_for_all_rows(connection)
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
    make_stage(connection)
    # Where only the weights are news, there is nothing to read.
    if not (_are_events(config) and are_counted(connection, source, config)):
        stage(
            connection,
            source,
            config,
            now=now,
            batch=batch,
            looks_at_pairs=is_first_load(connection, config),
            log=log,
        )
        batch.refusal = _refuse_rejects(connection, batch, source, config)
        require_no_doubt(connection, batch, source, too_many_bad=bool(batch.refusal))

    if not batch.refusal:
        # A refusal on the way takes back what was written before it, and leaves the batch.
        merging = connection.begin_nested()
        batch.refusal = merge(connection, batch, source, config)
        if batch.refusal:
            merging.rollback()
        else:
            merging.commit()

    finish_batch(connection, batch)
    return batch


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
        total_ratings=total_of(connection, batch),
        seconds=time.monotonic() - started,
        rows_not_rated=batch.rows_not_rated,
        kind=config.data.kind,
        notes="; ".join(batch.notes),
    )
