"""`mf.ratings` out of Postgres in columns, ids as numbers into a list of the distinct ones.

Postgres only scans and hashes. It sorts nothing and never looks for the distinct ids: both cost it
ten times as much with texts as they cost NumPy with numbers.
"""

import tempfile
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa
from numpy.typing import NDArray
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection

from mf_core.data.ratings import Float32s, Float64s, IdMap, Int32s, id_map, pair_order
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

# For parallel workers: by Postgres' reckoning a hash costs no more than an addition, and handing a
# row on costs forty of them. And for all digits of a number, whatever the server's setting is.
_SETTINGS = """
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL extra_float_digits = 1
"""

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
    """The rows of `mf.ratings`, sorted by (user, item); arrays of shape (n,).

    Attributes:
        users, items: the distinct ids.
        user, item: int32 arrays, rows of `users` and `items`.
        value: float32 array, ratings.
        seconds: float64 array, when each was given, in seconds since 1970-01-01 UTC: exact to the
            microsecond until 2106. NaN where that is not known; infinite where the date is.
        is_test: boolean array, what was asked for.
    """

    users: IdMap
    items: IdMap
    user: Int32s
    item: Int32s
    value: Float32s
    seconds: Float64s
    is_test: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.user)


def read_columns(connection: Connection, is_test: str, **values: float) -> Columns:
    """Return `mf.ratings` as one statement sees it.

    Args:
        connection: in a transaction, whose settings change for its later statements too.
        is_test: an expression of SQL over `mf.ratings`; a constant of this project.
        values: what `is_test` says in braces.
    """
    connection.execute(sa.text(_SETTINGS))

    # By way of a file: the ratings as text take far more memory than as arrays.
    with tempfile.TemporaryFile() as spool:
        _copy(connection, spool, is_test, values)
        spool.seek(0)
        blocks = pyarrow.csv.ReadOptions(block_size=_BLOCK)
        table = pyarrow.csv.read_csv(
            spool, read_options=blocks, parse_options=_LINES, convert_options=_VALUES
        )
    columns = {name: table[name] for name in _TYPES}
    del table
    found = _sorted(columns)
    # Arrow would keep what it has freed: half a gigabyte of 20 million ratings.
    pa.default_memory_pool().release_unused()
    return found


def _copy(connection: Connection, spool: IO[bytes], is_test: str, values: dict[str, float]) -> None:
    # COPY takes no bound parameters; the driver quotes the values.
    literals = {name: pg.Literal(value) for name, value in values.items()}
    asked = composed(connection, is_test, **literals)
    statement = composed(connection, _COPY, is_test=asked)
    with psycopg2_cursor(connection) as cursor:
        cursor.copy_expert(statement.as_string(cursor), spool)


def _sorted(columns: dict[str, pa.ChunkedArray]) -> Columns:
    """Return the rows by (user, item). Each column goes from `columns` as it is taken."""
    users, user = _decoded(columns.pop("user_id"))
    items, item = _decoded(columns.pop("item_id"))
    order = pair_order(user, item)
    return Columns(
        users=users,
        items=items,
        user=user[order],
        item=item[order],
        value=columns.pop("rating").to_numpy().astype(np.float32)[order],
        seconds=columns.pop("seconds").to_numpy()[order],
        is_test=columns.pop("is_test").to_numpy()[order],
    )


def _decoded(column: pa.ChunkedArray) -> tuple[IdMap, Int32s]:
    """Return the distinct texts of a column, and each row's place among them."""
    if not len(column):
        return id_map([]), np.empty(0, np.int32)
    unified = column.unify_dictionaries()
    texts = unified.chunk(0).dictionary.to_pylist()
    ids = id_map(texts)
    rows = ids.rows(texts)
    return ids, np.concatenate([rows[chunk.indices.to_numpy()] for chunk in unified.chunks])
