"""Train/test split: which ratings are held out, as SQL over `mf.ratings`, and the snapshot of both sides.

hash        sha256 of (user_id, item_id, seed): a pair's side never changes from night to night, so that last night's
            champion has never seen tonight's test rows.
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
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection

from mf_core.attributes import Attributes, texts_by_row
from mf_core.config import SplitConfig
from mf_core.errors import QualityError
from mf_core.ratings import IdMap, Ratings, concatenate, id_map
from mf_core.snapshot import Snapshot
from mf_core.warehouse.engine import psycopg2_cursor

BUCKETS = 10_000
_ROWS_AT_A_TIME = 1_000_000

_IS_TEST = {
    "hash": "mf.split_bucket(user_id, item_id, {seed}) < {threshold}",
    "temporal": """coalesce(rated_at > (
        SELECT percentile_disc(1 - {fraction}) WITHIN GROUP (ORDER BY rated_at) FROM mf.ratings), false)""",
    "leave_last": """rated_at IS NOT NULL AND count(*) OVER (PARTITION BY user_id) > 1
        AND row_number() OVER (PARTITION BY user_id ORDER BY rated_at DESC NULLS LAST, item_id DESC) = 1""",
    "given": "coalesce(side = 'test', false)",
}
# A forgotten user's attributes are not used, whoever wrote them.
_KNOWN_USERS = """
SELECT user_id, attributes::text FROM mf.users
WHERE jsonb_typeof(attributes) = 'object' AND attributes <> '{}' AND user_id NOT IN (SELECT user_id FROM mf.forgotten_users)
"""
_KNOWN_ITEMS = "SELECT item_id, attributes::text FROM mf.items WHERE jsonb_typeof(attributes) = 'object' AND attributes <> '{}'"
_ADVICE = {
    "hash": "Lower split.test_fraction or load more ratings.",
    "temporal": "This protocol needs dated ratings: set source.time_column, or use protocol hash.",
    "leave_last": "This protocol needs dated ratings and users with two of them: set source.time_column, or use protocol hash.",
    "given": "Say which rows are test: set source.test_uri or source.side_column.",
}


def split_bucket(user_id: str, item_id: str, seed: int) -> int:
    """Return the bucket 0..9999 of a pair; the twin of the SQL function `mf.split_bucket`."""
    user, item = user_id.encode(), item_id.encode()
    text = b"%d:%b%d:%b%d" % (len(user), user, len(item), item, seed)
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") % BUCKETS


def split_id(config: SplitConfig) -> str:
    """Return the identity (12 hex digits) of the way of splitting: protocol, and the seed and fraction that it uses."""
    used = {
        "hash": [config.test_fraction, config.seed],
        "temporal": [config.test_fraction],
        "leave_last": [],
        "given": [],
    }[config.protocol]
    return hashlib.sha256(json.dumps([config.protocol, *used]).encode()).hexdigest()[:12]


def take_snapshot(
    connection: Connection, config: SplitConfig, *, with_attributes: bool = False
) -> Snapshot:
    """Read `mf.ratings`, split, into a `Snapshot`. `connection` must be in a REPEATABLE READ transaction.

    `with_attributes` adds what `mf.users` and `mf.items` say, and the users and items that have attributes and no rating.

    Raises:
        QualityError: the table, or one side, is empty.
    """
    users, items = (_ids(connection, column) for column in ("user_id", "item_id"))
    if not len(users):
        raise QualityError("mf.ratings is empty; ingest ratings first (`mf ingest`).")
    attributes = None
    if with_attributes:
        of_users, of_items = (
            _texts(connection, statement) for statement in (_KNOWN_USERS, _KNOWN_ITEMS)
        )
        users, items = id_map([*users.ids, *of_users]), id_map([*items.ids, *of_items])
        attributes = Attributes(texts_by_row(users, of_users), texts_by_row(items, of_items))
    with tempfile.TemporaryFile() as spool:
        _copy_split(connection, config, spool)
        spool.seek(0)
        ratings, is_test = _read_split(spool, users, items)
    n_test = int(is_test.sum())
    if not 0 < n_test < len(ratings):
        raise QualityError(
            f"the split ({config.protocol}) puts {len(ratings) - n_test:,} ratings on the training side and {n_test:,} on the "
            f"test side; both need at least one. {_ADVICE[config.protocol]}"
        )
    return Snapshot(users, items, ratings.take(~is_test), ratings.take(is_test), attributes)


def _ids(connection: Connection, column: str) -> IdMap:
    names: sa.ScalarResult[str] = connection.scalars(
        sa.select(sa.column(column))
        .select_from(sa.text("mf.ratings"))
        .distinct()
        .order_by(sa.column(column))
    )
    return IdMap(np.array(list(names), dtype=object))


def _texts(connection: Connection, statement: str) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.execute(sa.text(statement))}


def _copy_split(connection: Connection, config: SplitConfig, spool: IO[bytes]) -> None:
    is_test = pg.SQL(_IS_TEST[config.protocol]).format(
        seed=pg.Literal(config.seed),
        threshold=pg.Literal(round(config.test_fraction * BUCKETS)),
        fraction=pg.Literal(config.test_fraction),
    )
    statement = pg.SQL(
        "COPY (SELECT user_id, item_id, rating, ({})::integer FROM mf.ratings ORDER BY user_id, item_id) TO STDOUT (FORMAT csv)"
    ).format(is_test)
    with psycopg2_cursor(connection) as cursor:
        cursor.copy_expert(statement.as_string(cursor), spool)


def _read_split(spool: IO[bytes], users: IdMap, items: IdMap) -> tuple[Ratings, np.ndarray]:
    names: dict[str, Any] = {
        "user_id": str,
        "item_id": str,
        "value": np.float32,
        "is_test": np.int8,
    }
    chunks = pd.read_csv(
        spool, names=list(names), dtype=names, keep_default_na=False, chunksize=_ROWS_AT_A_TIME
    )
    parts, sides = [], []
    for chunk in chunks:
        parts.append(
            Ratings(
                users.rows(chunk["user_id"]),
                items.rows(chunk["item_id"]),
                chunk["value"].to_numpy(),
            )
        )
        sides.append(chunk["is_test"].to_numpy() == 1)
    return concatenate(parts), np.concatenate(sides)
