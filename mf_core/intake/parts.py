"""The parts of sources that are loaded, in `mf.source_parts`: found, looked at again, remembered.

A merge of ratings reads only the parts that it does not find here, and of a query only the rows
since its watermark. It leaves the ratings as if it had read everything. Wherever that is in doubt,
`ReadAllError` says so, and everything is read.

What is here is loaded: it is written in the transaction of the ingest, and a replacement, or
events, empty it.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection, Engine

from mf_core.config import Config
from mf_core.intake.batches import Batch, count_ratings, is_replacement
from mf_core.redaction import redacted
from mf_core.sources.known import Key, Known, LoadedPart, ReadAllError
from mf_core.sources.source import RatingsFile, RatingsSource
from mf_core.warehouse import transaction
from mf_core.warehouse.schema import schema_of, sql
from mf_core.warehouse.tables import ingest_batches, source_parts

Result = TypeVar("Result")

# Of two ratings of one date the later line wins. Here, the row that is there may be of a later line
# that is not read again.
_HAS_TIES = """
SELECT EXISTS (
    SELECT FROM staged AS s
    JOIN {mf}.ratings AS r USING (user_id, item_id)
    WHERE r.rated_at IS NOT DISTINCT FROM
            timestamptz 'epoch' + s.rated_us * interval '1 microsecond'
        AND (r.rating, r.side) IS DISTINCT FROM (s.rating, s.side)
)
"""


def new_or_all(
    engine: Engine, config: Config, log: Callable[[str], None], load: Callable[[Known], Result]
) -> Result:
    """Load what is new of a source, or all of it where that can't be told.

    Args:
        engine: the warehouse.
        config: the settings of the run.
        log: takes a line of progress.
        load: loads what is not known. It may raise ReadAllError, and has changed nothing then.
    """
    nothing = Known(by_stamp=config.source.unchanged == "stat")
    if not _may_skip(config):
        return load(nothing)
    with transaction(engine) as connection:
        loaded = _loaded_parts(connection)
    try:
        return load(replace(nothing, parts=loaded))
    except ReadAllError as doubt:
        log(f"{doubt}: all of {redacted(config.source.uri)} is read")
    return load(nothing)


def _may_skip(config: Config) -> bool:
    """Return whether what was loaded before may be left out.

    Events take the place of what the same source has brought, so all of it has to come again.
    """
    is_merge_of_ratings = config.data.kind == "ratings" and not is_replacement(config)
    return is_merge_of_ratings and not config.source.reload


def _loaded_parts(connection: Connection) -> dict[Key, LoadedPart]:
    p = source_parts.c
    rows = connection.execute(sa.select(source_parts)).mappings()
    names = [p.sha256.name, p.stamp.name, p.header.name, p.watermark.name]
    return {
        (row["place"], row["reading"]): LoadedPart(**{name: row[name] for name in names})
        for row in rows
    }


def require_still_known(connection: Connection, source: RatingsSource, known: Known) -> None:
    """Make sure that what is not read is in the warehouse, now that no other ingest can change it.

    Raises:
        ReadAllError: another ingest has come between, or ratings were changed by other means.
    """
    if source.is_whole:
        return
    now = _loaded_parts(connection)
    for one in source.files:
        if one.key and (one.is_loaded or one.file.is_partial):
            before, after = known.parts[one.key], now.get(one.key)
            if after is None or not after.is_as_far_as(before):
                raise ReadAllError("another ingest has changed the ratings meanwhile")
    if count_ratings(connection) != _last_count(connection):
        raise ReadAllError(
            f"{schema_of(connection)}.ratings has other rows than the last batch left there"
        )


def _last_count(connection: Connection) -> int | None:
    """Return how many ratings there were when the last batch was loaded."""
    b = ingest_batches.c
    last = sa.select(b.total_ratings).where(b.state == "loaded").order_by(b.batch_id.desc())
    return connection.scalar(last.limit(1))


def require_no_doubt(
    connection: Connection, batch: Batch, source: RatingsSource, *, too_many_bad: bool
) -> None:
    """Make sure that the staged rows decide what all rows of the source would.

    Args:
        connection: in the transaction of the ingest, with the rows in `staged`.
        batch: what was read.
        source: where it came from.
        too_many_bad: whether so many of the rows that were read are bad that they are refused.

    Raises:
        ReadAllError: all rows are needed.
    """
    if source.is_whole:
        return
    if too_many_bad:
        raise ReadAllError(
            f"{batch.rows_rejected:,} of {batch.rows_read:,} rows are bad, which may be few of all"
        )
    if source.reads_before_loaded and connection.scalar(sql(connection, _HAS_TIES)):
        raise ReadAllError(
            "ratings of one date differ between the parts, and the order of all parts decides"
        )


def remember_parts(
    connection: Connection, source: RatingsSource, config: Config, batch: Batch
) -> None:
    """Write what the batch has loaded, in the transaction that loads it.

    A part with rows that lie in the future yet is not remembered, so that it is read again.
    """
    is_of_events = config.data.kind == "events"
    if is_of_events or is_replacement(config):
        connection.execute(sa.delete(source_parts))
    if is_of_events:
        return
    _write_parts(
        connection,
        batch.batch_id,
        [one for one in source.files if one.file.name not in batch.early],
    )


def remember_stamps(
    connection: Connection, source: RatingsSource, config: Config, batch: Batch
) -> None:
    """Write how known parts are recognised tomorrow, where nothing was loaded."""
    if _may_skip(config):
        loaded = [one for one in source.files if one.is_loaded]
        _write_parts(connection, batch.batch_id, loaded)


def _write_parts(connection: Connection, batch_id: int, files: Iterable[RatingsFile]) -> None:
    """Write what is known of the files that have a place, each place once."""
    known = _loaded_parts(connection)
    new = {}
    for one in files:
        if one.key is not None and known.get(one.key) != one.as_loaded():
            new[one.key] = one.as_loaded()
    rows = [
        {"place": place, "reading": reading, "batch_id": batch_id, **vars(part)}
        for (place, reading), part in new.items()
    ]
    if not rows:
        return
    statement = insert(source_parts)
    names = ("sha256", "stamp", "header", "watermark", "batch_id")
    replaced = {name: statement.excluded[name] for name in names}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["place", "reading"], set_=replaced), rows
    )


def skipped_note(source: RatingsSource) -> str:
    """Return how much of the source is not read, in one line for people; "" if all of it is."""
    n_loaded = sum(one.is_loaded for one in source.files)
    if n_loaded:
        return f"{n_loaded:,} of {len(source.files):,} parts are loaded already, and are not read"
    return "" if source.is_whole else "only rows since the last watermark are read"
