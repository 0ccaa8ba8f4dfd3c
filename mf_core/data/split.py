"""Train/test split: which of the ratings in `mf.ratings` are held out, and the snapshot of both.

hash        sha256 of (user_id, item_id, seed): a pair's side never changes from night to night, so
            that last night's champion has never seen tonight's test rows.
temporal    the latest `test_fraction` of all dated ratings.
leave_last  each user's latest rating, for users with at least two.
given       the side that the source gave the row.

A rating without a date is a training row under temporal and leave_last.
"""

import hashlib
import json
from decimal import Decimal
from math import ceil

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from mf_core.config import SplitConfig
from mf_core.data.attributes import Attributes, texts_by_row
from mf_core.data.columns import Columns, read_columns
from mf_core.data.ratings import (
    UNDATED,
    Float64s,
    IdMap,
    Int32s,
    Ratings,
    Seconds,
    id_map,
    known_times,
)
from mf_core.data.snapshot import Snapshot
from mf_core.errors import QualityError
from mf_core.warehouse import tables
from mf_core.warehouse.schema import catalogue_of, schema_of, sql

Mask = NDArray[np.bool_]

BUCKETS = 10_000

# Which ratings are test rows, as SQL over mf.ratings: what no column of the export tells. `given`
# holds for rows with a side only.
_IS_TEST = {
    "hash": "{mf}.split_bucket(user_id, item_id, {seed}) < {threshold}",
    "temporal": "false",
    "leave_last": "false",
    "given": "coalesce(side = 'test', false)",
}

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
    columns = read_columns(
        connection,
        _IS_TEST[config.protocol],
        seed=config.seed,
        threshold=round(config.test_fraction * BUCKETS),
    )
    if not len(columns):
        command = catalogue_of(connection).command("ingest")
        raise QualityError(
            f"{schema_of(connection)}.ratings is empty; ingest ratings first (`{command}`)."
        )

    users, items = columns.users, columns.items
    user, item = columns.user, columns.item
    attributes = None
    if with_attributes:
        users, items, attributes = _with_attributes(connection, users, items)
        user = users.rows(columns.users.ids)[user]
        item = items.rows(columns.items.ids)[item]

    # The clock of the transaction, as Postgres itself would compare.
    now = connection.execute(sa.text("SELECT date_part('epoch', now())")).scalar_one()
    ratings = Ratings(
        user=user,
        item=item,
        value=columns.value,
        rated_at=known_times(_times(columns.seconds, now)),
    )
    is_test = _test_side(config, columns)
    _check_sides(is_test, config)
    return Snapshot(
        users=users,
        items=items,
        train=ratings.take(~is_test),
        test=ratings.take(is_test),
        attributes=attributes,
    )


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


def _check_sides(is_test: Mask, config: SplitConfig) -> None:
    """Raise QualityError if one of the sides is empty."""
    n_test = int(is_test.sum())
    n_train = len(is_test) - n_test

    # There would be nothing to train on, or nothing to measure by.
    if n_train == 0 or n_test == 0:
        raise QualityError(
            f"the split ({config.protocol}) puts {n_train:,} ratings on the training side and "
            f"{n_test:,} on the test side; both need at least one. {_ADVICE[config.protocol]}"
        )


def _test_side(config: SplitConfig, columns: Columns) -> Mask:
    """Return which rows are test rows; boolean array of shape (n,)."""
    if config.protocol == "temporal":
        return _latest(columns.seconds, config.test_fraction)
    if config.protocol == "leave_last":
        return _last_of_users(columns.user, columns.seconds)
    return columns.is_test


def _times(seconds: Float64s, now: float) -> Seconds:
    """Return times as `Ratings.rated_at` has them: whole seconds.

    One that lies in the future, or before 1970, can't be right, and counts as unknown; no ingest
    lets it in.
    """
    credible = (seconds >= 0) & (seconds <= now)
    return np.where(credible, seconds, UNDATED).astype(np.uint32)


def _latest(seconds: Float64s, fraction: float) -> Mask:
    """Return the rows after the time that all but a `fraction` of the dated rows do not pass."""
    dated = seconds[~np.isnan(seconds)]
    if not len(dated):
        return np.zeros(len(seconds), dtype=bool)

    # The first time that enough do not pass, as percentile_disc(1 - fraction) has it. Decimal,
    # since 1 - 0.9 is less than 0.1 in binary.
    share = float(1 - Decimal(repr(fraction)))
    place = max(1, ceil(share * len(dated))) - 1
    cut = np.partition(dated, place)[place]
    return np.asarray(seconds > cut)


def _last_of_users(user: Int32s, seconds: Float64s) -> Mask:
    """Return each user's latest row, for users with at least two.

    Of two of one time, the one of the higher item id counts as later.

    Args:
        user: sorted; of each user, the rows are sorted by item id.
        seconds: NaN where a row has no time.
    """
    dated = ~np.isnan(seconds)
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    counts = np.diff(starts, append=len(user))

    # Each row beside the latest time of its user; NaN is smaller than any.
    times = np.where(dated, seconds, -np.inf)
    latest = np.repeat(np.maximum.reduceat(times, starts), counts)
    with_another = np.repeat(counts > 1, counts)
    candidates = np.flatnonzero(dated & (times == latest) & with_another)

    # The last of a user's candidates is the one before another user's.
    is_last = np.diff(user[candidates], append=-1) != 0
    held_out = np.zeros(len(user), dtype=bool)
    held_out[candidates[is_last]] = True
    return held_out
