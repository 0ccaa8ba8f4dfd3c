"""Train/test split: which ratings are held out, as SQL over `mf.ratings`, and the snapshot of both.

hash        sha256 of (user_id, item_id, seed): a pair's side never changes from night to night, so
            that last night's champion has never seen tonight's test rows.
temporal    the latest `test_fraction` of all dated ratings.
leave_last  each user's latest rating, for users with at least two.
given       the side that the source gave the row.

A rating without a date is a training row under temporal and leave_last.
"""

import hashlib
import json
import tempfile
from typing import IO, Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection

from mf_core.config import SplitConfig
from mf_core.data.attributes import Attributes, texts_by_row
from mf_core.data.ratings import IdMap, Ratings, concatenate, id_map, known_times
from mf_core.data.snapshot import Snapshot
from mf_core.errors import QualityError
from mf_core.warehouse import tables
from mf_core.warehouse.schema import catalogue_of, composed, psycopg2_cursor, schema_of, sql

BUCKETS = 10_000
_ROWS_AT_A_TIME = 1_000_000

# Which ratings are test rows, as SQL over mf.ratings; `given` holds for rows with a side only.
_IS_TEST = {
    "hash": "{mf}.split_bucket(user_id, item_id, {seed}) < {threshold}",
    "temporal": """
        coalesce(rated_at > (
            SELECT percentile_disc(1 - {fraction}) WITHIN GROUP (ORDER BY rated_at)
            FROM {mf}.ratings
        ), false)
    """,
    # Of two ratings of one date the one of the higher item id counts as later.
    "leave_last": """
        rated_at IS NOT NULL
        AND count(*) OVER (PARTITION BY user_id) > 1
        AND row_number() OVER (
            PARTITION BY user_id ORDER BY rated_at DESC NULLS LAST, item_id DESC
        ) = 1
    """,
    "given": "coalesce(side = 'test', false)",
}

# In the order of the pairs: a snapshot's ratings are sorted by (user, item). Times are whole
# seconds, as `Ratings.rated_at` has them, 0 for an unknown one. One that lies in the future, or
# before 1970, can't be right, and counts as unknown; no ingest lets it in.
_COPY_SPLIT = """
COPY (
    SELECT
        user_id,
        item_id,
        rating,
        ({is_test})::integer,
        CASE
            WHEN rated_at BETWEEN to_timestamp(0) AND now()
            THEN floor(extract(epoch FROM rated_at))::bigint
            ELSE 0
        END
    FROM {mf}.ratings
    ORDER BY user_id, item_id
) TO STDOUT (FORMAT csv)
"""

# A forgotten user's attributes are not used, whoever wrote them.
_KNOWN_USERS = """
SELECT user_id, attributes::text
FROM {mf}.users
WHERE jsonb_typeof(attributes) = 'object'
    AND attributes <> '{}'
    AND user_id NOT IN (SELECT user_id FROM {mf}.forgotten_users)
"""
_KNOWN_ITEMS = """
SELECT item_id, attributes::text
FROM {mf}.items
WHERE jsonb_typeof(attributes) = 'object'
    AND attributes <> '{}'
"""

_ADVICE = {
    "hash": "Lower split.test_fraction or load more ratings.",
    "temporal": (
        "This protocol needs dated ratings: set source.time_column, or use protocol hash."
    ),
    "leave_last": (
        "This protocol needs dated ratings and users with two of them: "
        "set source.time_column, or use protocol hash."
    ),
    "given": "Say which rows are test: set source.test_uri or source.side_column.",
}


def knows_sides(connection: Connection) -> bool:
    """Say whether a rating in the warehouse says which side it is on (protocol `given`)."""
    has_side = sa.exists().where(tables.ratings.c.side.is_not(None))
    return connection.scalar(sa.select(has_side)) is True


def split_bucket(user_id: str, item_id: str, seed: int) -> int:
    """Return the bucket 0..9999 of a pair; the twin of the SQL function `mf.split_bucket`."""
    user = user_id.encode()
    item = item_id.encode()

    # The lengths keep ("1", "23") and ("12", "3") apart.
    text = b"%d:%b%d:%b%d" % (len(user), user, len(item), item, seed)

    # bucket = the first 32 bits of the hash, modulo the number of buckets
    first_bytes = hashlib.sha256(text).digest()[:4]
    return int.from_bytes(first_bytes, "big") % BUCKETS


def split_id(config: SplitConfig) -> str:
    """Return the identity (12 hex digits) of the way of splitting.

    It holds the protocol, and the seed and fraction where the protocol uses them.
    """
    used = {
        "hash": [config.test_fraction, config.seed],
        "temporal": [config.test_fraction],
        "leave_last": [],
        "given": [],
    }
    identity = json.dumps([config.protocol, *used[config.protocol]])
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def take_snapshot(
    connection: Connection, config: SplitConfig, *, with_attributes: bool = False
) -> Snapshot:
    """Read `mf.ratings`, split, into a `Snapshot`.

    Args:
        connection: must be in a REPEATABLE READ transaction.
        config: how to split.
        with_attributes: add what `mf.users` and `mf.items` say, and the users and items that have
            attributes and no rating.

    Raises:
        QualityError: the table, or one side, is empty.
    """
    users = _ids(connection, "user_id")
    items = _ids(connection, "item_id")
    if not len(users):
        command = catalogue_of(connection).command("ingest")
        raise QualityError(
            f"{schema_of(connection)}.ratings is empty; ingest ratings first (`{command}`)."
        )

    attributes = None
    if with_attributes:
        users, items, attributes = _with_attributes(connection, users, items)

    # By way of a file: the ratings as text take far more memory than as arrays.
    with tempfile.TemporaryFile() as spool:
        _copy_split(connection, config, spool)
        spool.seek(0)
        ratings, is_test = _read_split(spool, users, items)

    _check_sides(is_test, config)
    return Snapshot(
        users=users,
        items=items,
        train=ratings.take(~is_test),
        test=ratings.take(is_test),
        attributes=attributes,
    )


def _ids(connection: Connection, column: str) -> IdMap:
    """Return the distinct ids of a column of `mf.ratings`.

    Postgres sorts them by their bytes (collation C), as `IdMap` wants them.
    """
    ids: sa.ColumnClause[str] = sa.column(column)
    statement = sa.select(ids).select_from(tables.ratings).distinct().order_by(ids)
    found = connection.scalars(statement).all()
    return IdMap(np.array(found, dtype=object))


def _with_attributes(
    connection: Connection, users: IdMap, items: IdMap
) -> tuple[IdMap, IdMap, Attributes]:
    """Return the ids with those that have attributes only, and the attributes of all.

    A user or an item without ratings can be predicted by what its attributes say.
    """
    of_users = _texts(connection, _KNOWN_USERS)
    of_items = _texts(connection, _KNOWN_ITEMS)

    all_users = id_map([*users.ids, *of_users])
    all_items = id_map([*items.ids, *of_items])
    attributes = Attributes(
        user=texts_by_row(all_users, of_users),
        item=texts_by_row(all_items, of_items),
    )
    return all_users, all_items, attributes


def _texts(connection: Connection, statement: str) -> dict[str, str]:
    """Return the attributes by id: the text of a JSON object each."""
    texts = {}
    for external_id, text in connection.execute(sql(connection, statement)):
        texts[external_id] = text
    return texts


def _check_sides(is_test: NDArray[np.bool_], config: SplitConfig) -> None:
    """Raise QualityError if one of the sides is empty."""
    n_test = int(is_test.sum())
    n_train = len(is_test) - n_test

    # There would be nothing to train on, or nothing to measure by.
    if n_train == 0 or n_test == 0:
        raise QualityError(
            f"the split ({config.protocol}) puts {n_train:,} ratings on the training side and "
            f"{n_test:,} on the test side; both need at least one. {_ADVICE[config.protocol]}"
        )


def _copy_split(connection: Connection, config: SplitConfig, spool: IO[bytes]) -> None:
    """Write user_id, item_id, rating, 1 for a test row (else 0) and the time to `spool` as CSV."""
    # COPY takes no bound parameters; the driver quotes the values.
    threshold = round(config.test_fraction * BUCKETS)
    is_test = composed(
        connection,
        _IS_TEST[config.protocol],
        seed=pg.Literal(config.seed),
        threshold=pg.Literal(threshold),
        fraction=pg.Literal(config.test_fraction),
    )
    statement = composed(connection, _COPY_SPLIT, is_test=is_test)

    with psycopg2_cursor(connection) as cursor:
        cursor.copy_expert(statement.as_string(cursor), spool)


def _read_split(spool: IO[bytes], users: IdMap, items: IdMap) -> tuple[Ratings, NDArray[np.bool_]]:
    """Return the ratings that `_copy_split` wrote, and which of them are test rows."""
    dtypes: dict[str, Any] = {
        "user_id": str,
        "item_id": str,
        "value": np.float32,
        "is_test": np.int8,
        "rated_at": np.uint32,
    }
    # Ids such as "NA" and "null" are ids; pandas would read them as missing.
    chunks = pd.read_csv(
        spool,
        names=list(dtypes),
        dtype=dtypes,
        keep_default_na=False,
        chunksize=_ROWS_AT_A_TIME,
    )

    parts = []
    sides = []
    for chunk in chunks:
        ratings = Ratings(
            user=users.rows(chunk["user_id"]),
            item=items.rows(chunk["item_id"]),
            value=chunk["value"].to_numpy(),
            rated_at=known_times(chunk["rated_at"].to_numpy()),
        )
        parts.append(ratings)
        sides.append(chunk["is_test"].to_numpy() == 1)
    return concatenate(parts), np.concatenate(sides)
