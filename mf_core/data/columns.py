"""`mf.ratings` out of Postgres in columns, ids as numbers into a list of the distinct ones.

Postgres only scans and hashes: it sorts nothing, and never looks for the distinct ids. Sorting
numbers costs a tenth of sorting texts, and is done in `mf_core.data.split`.
"""

import tempfile
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa
from numpy.typing import NDArray
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection

from mf_core.data.ratings import Float64s, Int32s
from mf_core.warehouse.schema import composed, psycopg2_cursor

# The header keeps an id from the start of the file, where a byte order mark would be left out.
_COPY = """
COPY (
    SELECT
        user_id,
        item_id,
        rating,
        date_part('epoch', rated_at) AS seconds,
        ({is_test}) AS is_test
    FROM {mf}.ratings
) TO STDOUT (FORMAT csv, HEADER)
"""

# By its reckoning a hash costs no more than an addition, and handing a row on forty of them.
_PARALLEL = "SET LOCAL parallel_tuple_cost = 0"

_ID = pa.dictionary(pa.int32(), pa.string())
_TYPES = {
    "user_id": _ID,
    "item_id": _ID,
    "rating": pa.float64(),
    "seconds": pa.float64(),
    "is_test": pa.bool_(),
}
# An id may have line ends in it. Those such as "NA" and "" are ids.
_LINES = pyarrow.csv.ParseOptions(newlines_in_values=True)
_VALUES = pyarrow.csv.ConvertOptions(
    column_types=_TYPES,
    null_values=[""],
    true_values=["t"],
    false_values=["f"],
    strings_can_be_null=False,
)
# A block has a list of its distinct ids: the larger, the fewer lists to bring together.
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Columns:
    """The rows of `mf.ratings` in no order; arrays of shape (n,).

    Attributes:
        user_ids, item_ids: the distinct ids, in no order.
        user, item: int32 arrays, places in `user_ids` and `item_ids`.
        value: float64 array, ratings.
        seconds: float64 array, when each was given, in seconds since 1970-01-01 UTC: exact to the
            microsecond until 2106. NaN where that is not known; infinite where the date is.
        is_test: boolean array, what was asked for.
    """

    user_ids: list[str]
    item_ids: list[str]
    user: Int32s
    item: Int32s
    value: Float64s
    seconds: Float64s
    is_test: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.user)


def read_columns(connection: Connection, is_test: str, **values: float) -> Columns:
    """Return `mf.ratings` as one statement sees it.

    Args:
        connection: in a transaction; its statements are planned for parallel workers from now on.
        is_test: an expression of SQL over `mf.ratings`; a constant of this project.
        values: what `is_test` says in braces.
    """
    connection.execute(sa.text(_PARALLEL))

    # By way of a file: the ratings as text take far more memory than as arrays.
    with tempfile.TemporaryFile() as spool:
        _copy(connection, spool, is_test, values)
        spool.seek(0)
        blocks = pyarrow.csv.ReadOptions(block_size=_BLOCK)
        table = pyarrow.csv.read_csv(
            spool, read_options=blocks, parse_options=_LINES, convert_options=_VALUES
        )
    return _columns(table.unify_dictionaries())


def _copy(connection: Connection, spool: IO[bytes], is_test: str, values: dict[str, float]) -> None:
    # COPY takes no bound parameters; the driver quotes the values.
    literals = {name: pg.Literal(value) for name, value in values.items()}
    asked = composed(connection, is_test, **literals)
    statement = composed(connection, _COPY, is_test=asked)
    with psycopg2_cursor(connection) as cursor:
        cursor.copy_expert(statement.as_string(cursor), spool)


def _columns(table: pa.Table) -> Columns:
    user_ids, user = _decoded(table["user_id"])
    item_ids, item = _decoded(table["item_id"])
    return Columns(
        user_ids=user_ids,
        item_ids=item_ids,
        user=user,
        item=item,
        value=table["rating"].to_numpy(),
        seconds=table["seconds"].to_numpy(),
        is_test=table["is_test"].to_numpy(),
    )


def _decoded(column: pa.ChunkedArray) -> tuple[list[str], Int32s]:
    """Return the distinct texts of a column of one dictionary, and each row's place among them."""
    if not column.num_chunks:
        return [], np.empty(0, np.int32)
    texts: list[str] = column.chunk(0).dictionary.to_pylist()
    places: list[Any] = [chunk.indices.to_numpy() for chunk in column.chunks]
    return texts, np.concatenate(places)
