"""Rows of the source into the temporary table `staged`, bad ones into `mf.rejected_ratings`."""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from typing import TypeVar

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mf_core.config import Config
from mf_core.errors import InputError
from mf_core.intake.advice import Reading
from mf_core.intake.batches import Batch
from mf_core.intake.pairs import Pairs
from mf_core.intake.parts import skipped_note
from mf_core.intake.rejects import keep_rejects
from mf_core.sources.chunks import Chunk
from mf_core.sources.source import RatingsSource
from mf_core.warehouse.engine import copy_table

_MAX_KEPT_REJECTS = 1_000_000
_REJECTS_IN_MESSAGE = 5

# `seq` is the order of the rows, which decides between ratings of one date. It is counted here: an
# identity column takes as long as all other columns together. The collation is that of mf.ratings,
# so that both sides of a join are in one order.
_STAGE = """
CREATE TEMPORARY TABLE staged (
    seq bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    item_id text COLLATE "C" NOT NULL,
    rating double precision NOT NULL,
    rated_us bigint,
    side text,
    event text COLLATE "C"
) ON COMMIT DROP
"""

_Item = TypeVar("_Item")


def make_stage(connection: Connection) -> None:
    """Make the table `staged`, without rows."""
    connection.execute(sa.text(_STAGE))


def stage(
    connection: Connection,
    source: RatingsSource,
    config: Config,
    *,
    now: datetime,
    batch: Batch,
    looks_at_pairs: bool,
    log: Callable[[str], None],
) -> None:
    """Copy the good rows into `staged` and the bad ones into `mf.rejected_ratings`.

    Args:
        connection: in the transaction of the ingest, with the table `staged`.
        source: what is read.
        config: how it is read.
        now: the current time; later dates are bad rows.
        batch: takes the counts, and what people should know.
        looks_at_pairs: find out whether no pair comes twice (`batch.distinct`).
        log: takes a line for each chunk.

    Raises:
        InputError: a file can't be read as ratings, or there is no row at all.
    """
    if note := skipped_note(source):
        log(note)
    reading = Reading()
    pairs = Pairs()
    with closing(_read_ahead(source.chunks(config, now))) as chunks:
        for name, chunk in chunks:
            _take_in(connection, batch, name, chunk)
            reading.add(name, chunk)
            if looks_at_pairs:
                pairs.add(chunk.rows)
            skipped = f", {batch.rows_not_rated:,} not rated" if batch.rows_not_rated else ""
            log(
                f"{name}: {batch.rows_read:,} rows read, "
                f"{batch.rows_rejected:,} of them bad{skipped}"
            )

    batch.distinct = pairs.are_distinct()
    batch.notes += reading.notes(config)
    batch.early = reading.early
    if not batch.rows_read and source.is_whole:
        raise InputError(
            f"{source.uri}: expected {config.data.kind}, got no row. "
            "Check what writes it, or the query."
        )


def _take_in(connection: Connection, batch: Batch, name: str, chunk: Chunk) -> None:
    """Copy the rows of a chunk of the file `name`, good and bad ones, and count them."""
    # In the order of the source: a chunk has no more good rows than it has rows.
    seq = np.arange(chunk.rows.num_rows, dtype=np.int64) + batch.rows_read
    numbered = chunk.rows.drop_columns(["line"]).append_column("seq", pa.array(seq))
    copy_table(connection, ("staged",), numbered)

    # Every bad row counts, but a file of nothing else must not fill the disk.
    still_kept = max(0, _MAX_KEPT_REJECTS - batch.rows_rejected)
    keep_rejects(connection, batch.batch_id, name, chunk.rejected[:still_kept])

    still_shown = _REJECTS_IN_MESSAGE - len(batch.examples)
    for row in chunk.rejected[:still_shown]:
        batch.examples.append(f"{name}:{row.line}: {row.reason}")
    batch.add(chunk)


def _read_ahead(items: Iterator[_Item]) -> Generator[_Item]:
    """Yield the items; each is made, in another thread, while the one before is worked on.

    So a chunk is read and checked while Postgres takes in the last one.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="mf-read") as reader:
        coming = reader.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = reader.submit(next, items, None)
            yield item
