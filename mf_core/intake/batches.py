"""Batches of ratings on record, in `mf.ingest_batches`: begun, ended, and found again."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mf_core.config import Config
from mf_core.sources.chunks import Chunk
from mf_core.sources.problems import Cause
from mf_core.sources.source import RatingsSource
from mf_core.warehouse.schema import sql
from mf_core.warehouse.tables import ingest_batches

# Merging a file twice changes nothing unless the table was replaced in between, or the same source
# has brought something else; replacing by a file twice changes nothing only if no other batch was
# loaded in between.
_SAME_AGAIN = """
WITH loaded AS (SELECT * FROM {mf}.ingest_batches WHERE state = 'loaded')
SELECT max(batch_id)
FROM loaded AS same
WHERE fingerprint = :fingerprint
    AND EXISTS (SELECT FROM {mf}.ratings)
    AND CASE WHEN :replace
        THEN mode = 'replace' AND batch_id = (SELECT max(batch_id) FROM loaded)
        ELSE batch_id >= coalesce((SELECT max(batch_id) FROM loaded WHERE mode = 'replace'), 0)
            AND NOT EXISTS (
                SELECT FROM loaded AS other
                WHERE other.source_uri = :source_uri
                    AND other.fingerprint <> :fingerprint
                    AND other.batch_id > same.batch_id
            )
    END
"""

_COUNT_RATINGS = "SELECT count(*) FROM {mf}.ratings"


@dataclass
class Batch:
    """A batch while it is loaded.

    Attributes:
        batch_id: its number in `mf.ingest_batches`.
        rows_read: rows read so far, good and bad.
        rows_rejected: the bad ones of them.
        counts: what the merge changed, by column of `mf.ingest_batches`.
        rows_not_rated: those that say that they are no ratings, neither good nor bad.
        examples: the first bad rows, in words.
        causes: how many bad rows there are for each kind of reason.
        seen: the lowest and the highest number among the ratings; None: there was none.
        notes: what people should know of it.
        early: the files with rows that lie in the future yet.
        refusal: why the batch is refused, empty if it is not.
        distinct: each pair of user and item is known to come once; otherwise one may come again.
        total_ratings: how many ratings there are now, where that is known without counting.
    """

    batch_id: int
    rows_read: int = 0
    rows_rejected: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    rows_not_rated: int = 0
    examples: list[str] = field(default_factory=list)
    causes: Counter[Cause] = field(default_factory=Counter)
    seen: tuple[float, float] | None = None
    notes: list[str] = field(default_factory=list)
    early: set[str] = field(default_factory=set)
    refusal: str = ""
    distinct: bool = False
    total_ratings: int | None = None

    def add(self, chunk: Chunk) -> None:
        """Count the rows of a chunk."""
        self.rows_read += chunk.n_read
        self.rows_rejected += len(chunk.rejected)
        self.rows_not_rated += chunk.not_rated
        self.causes.update(row.cause for row in chunk.rejected)
        self._see(chunk.seen)

    def _see(self, seen: tuple[float, float] | None) -> None:
        """Widen the range of the ratings that were seen."""
        if self.seen is None or seen is None:
            self.seen = self.seen or seen
            return
        low, high = seen
        lowest, highest = self.seen
        self.seen = min(lowest, low), max(highest, high)


def is_replacement(config: Config) -> bool:
    """Return whether rows that the source does not have are removed."""
    return config.data.ingest_mode == "replace"


def find_same(connection: Connection, source: RatingsSource, config: Config) -> int | None:
    """Return the batch that loaded the same content, if loading it again would change nothing."""
    values = {
        "fingerprint": source.fingerprint,
        "source_uri": source.uri,
        "replace": is_replacement(config),
    }
    same: int | None = connection.scalar(sql(connection, _SAME_AGAIN), values)
    return same


def loaded_batch(connection: Connection, source: RatingsSource) -> int | None:
    """Return the last batch that loaded the content, None if none did."""
    b = ingest_batches
    same = sa.select(sa.func.max(b.c.batch_id)).where(
        b.c.state == "loaded", b.c.fingerprint == source.fingerprint
    )
    return connection.scalar(same)


def sums_of(config: Config) -> str | None:
    """Return how ratings are made of events, in words that differ where it does; None: ratings."""
    if config.data.kind == "ratings":
        return None
    weights = config.data.event_weights or "each event 1"
    cap = config.data.event_cap
    return weights if cap is None else f"{weights}; at most {cap:.15g} of a type"


def last_sums(connection: Connection) -> str | None:
    """Return how the ratings that are there were made of events; None: they were not."""
    b = ingest_batches
    last = sa.select(b.c.sums).where(b.c.state == "loaded").order_by(b.c.batch_id.desc()).limit(1)
    return connection.scalar(last)


def insert_batch(
    connection: Connection, source: RatingsSource, config: Config, now: datetime
) -> int:
    """Insert the batch, refused until it is loaded, and return its number."""
    statement = sa.insert(ingest_batches).values(
        source_uri=source.uri,
        content_sha256=source.content_sha256,
        fingerprint=source.fingerprint,
        mode=config.data.ingest_mode,
        state="refused",
        sums=sums_of(config),
        started_at=now,
        finished_at=now,
    )
    inserted = connection.execute(statement.returning(ingest_batches.c.batch_id))
    return int(inserted.scalar_one())


def finish_batch(connection: Connection, batch: Batch) -> None:
    """Write what became of the batch."""
    this_batch = ingest_batches.c.batch_id == batch.batch_id
    statement = (
        sa.update(ingest_batches)
        .where(this_batch)
        .values(
            state="refused" if batch.refusal else "loaded",
            rows_read=batch.rows_read,
            rows_rejected=batch.rows_rejected,
            **batch.counts,
            total_ratings=total_of(connection, batch),
            finished_at=sa.func.clock_timestamp(),
        )
    )
    connection.execute(statement)


def total_of(connection: Connection, batch: Batch) -> int:
    """Return how many ratings the warehouse has after a batch."""
    if batch.total_ratings is None:
        batch.total_ratings = count_ratings(connection)
    return batch.total_ratings


def count_ratings(connection: Connection) -> int:
    """Return how many ratings the warehouse has."""
    return int(connection.scalar(sql(connection, _COUNT_RATINGS)) or 0)
