"""What the tables hold that a snapshot is taken from, as one hash that Postgres makes.

A snapshot of 20 million ratings takes minutes to sort, hash and write; this takes one pass over the
table. Equal means that a snapshot taken now would be the same: whoever changed the tables, by
whatever way, and whatever it is that time itself changes.

    fingerprint = sha256(split, code, schema, counts and sums of the hashes of all rows)

Each row's hash is a chain: the hash of one column is the seed of the next. So no two rows can swap
their values and leave the sum as it was. Hashes of Postgres may differ from one major version to
another; then a snapshot is taken again.
"""

import hashlib
import json

from sqlalchemy.engine import Connection

from mf_core.config import SplitConfig
from mf_core.data.split import split_id
from mf_core.provenance import source_hash
from mf_core.warehouse.revisions import present
from mf_core.warehouse.schema import sql

# A missing value is a seed of its own: a hash of NULL is NULL, which no sum counts. A time that
# lies in the future counts as unknown until it comes; of the same rows, their number says which.
_RATINGS = """
SELECT
    count(*),
    sum(hashtextextended(
        user_id,
        hashtextextended(
            item_id,
            hashfloat8extended(
                rating,
                coalesce(
                    timestamp_hash_extended(
                        rated_at AT TIME ZONE 'UTC',
                        coalesce(hashtextextended(side, 1), 2)
                    ),
                    coalesce(hashtextextended(side, 3), 4)
                )
            )
        )
    )),
    count(*) FILTER (WHERE rated_at > now())
FROM {mf}.ratings
"""

_ATTRIBUTES = """
SELECT
    (SELECT count(*) FROM {mf}.users),
    (
        SELECT sum(hashtextextended(user_id, hashtextextended(attributes::text, 0)))
        FROM {mf}.users
    ),
    (SELECT count(*) FROM {mf}.items),
    (
        SELECT sum(hashtextextended(item_id, hashtextextended(attributes::text, 0)))
        FROM {mf}.items
    ),
    (SELECT count(*) FROM {mf}.forgotten_users),
    (SELECT sum(hashtextextended(user_id, 0)) FROM {mf}.forgotten_users)
"""


def data_fingerprint(
    connection: Connection, config: SplitConfig, *, with_attributes: bool = False
) -> str:
    """Return a hash (sha256, hex) of all that `take_snapshot` would read, and how it would.

    Args:
        connection: in the REPEATABLE READ transaction in which the snapshot would be taken.
        config: how to split.
        with_attributes: whether the snapshot has attributes.
    """
    read = [*connection.execute(sql(connection, _RATINGS)).one()]
    if with_attributes:
        read += connection.execute(sql(connection, _ATTRIBUTES)).one()

    # Other code may make another snapshot of the same rows, and so may a migration's functions.
    made_by = [split_id(config), with_attributes, source_hash(), present(connection)]
    identity = json.dumps([made_by, [str(value) for value in read]])
    return hashlib.sha256(identity.encode()).hexdigest()
