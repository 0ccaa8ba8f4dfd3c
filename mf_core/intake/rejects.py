"""Bad rows: they are kept in `mf.rejected_ratings`, and go when their time is over."""

from collections.abc import Iterable
from datetime import timedelta

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mf_core.sources.chunks import RejectedRow
from mf_core.warehouse.engine import copy_table
from mf_core.warehouse.schema import schema_of
from mf_core.warehouse.tables import ingest_batches, rejected_ratings


def keep_rejects(
    connection: Connection, batch_id: int, name: str, rejected: Iterable[RejectedRow]
) -> None:
    """Write bad rows of the file `name` to `mf.rejected_ratings`."""
    rows = [
        {
            "batch_id": batch_id,
            "file": name,
            "line": row.line,
            "raw": row.raw,
            "reason": row.reason,
        }
        for row in rejected
    ]
    # A table of no rows would have no columns.
    if rows:
        target = (schema_of(connection), "rejected_ratings")
        copy_table(connection, target, pa.Table.from_pylist(rows))


def forget_rejected(connection: Connection, older_than: timedelta) -> int:
    """Drop the rejected rows of batches that ended longer ago; return how many those are.

    Those of the last batch stay.
    """
    b = ingest_batches
    r = rejected_ratings
    last = sa.select(sa.func.max(b.c.batch_id)).scalar_subquery()
    old = sa.select(b.c.batch_id).where(
        b.c.finished_at < sa.func.now() - older_than, b.c.batch_id < last
    )
    return connection.execute(sa.delete(r).where(r.c.batch_id.in_(old))).rowcount
