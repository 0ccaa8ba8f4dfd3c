"""Items and users of the source into `mf.items` and `mf.users`, within an ingest's transaction."""

import json
from collections.abc import Callable, Iterable

import pyarrow as pa
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection

from mf_core.sources.metadata import Metadata, MetadataRow
from mf_core.warehouse.engine import copy_table
from mf_core.warehouse.schema import psycopg2_cursor, sql

Log = Callable[[str], None]

# COPY brings the attributes as the text of a JSON object; the statements below turn it into jsonb.
_STAGE_METADATA = """
CREATE TEMPORARY TABLE {} (
    id text COLLATE "C",
    title text,
    attributes text
) ON COMMIT DROP
"""

# A row that would not change is left alone here as well, so that the row count is what changed.
_UPSERT_ITEMS = """
INSERT INTO {mf}.items AS i (item_id, title, attributes)
SELECT id, title, attributes::jsonb
FROM staged_items
ON CONFLICT (item_id) DO UPDATE SET title = excluded.title, attributes = excluded.attributes
WHERE (i.title, i.attributes) IS DISTINCT FROM (excluded.title, excluded.attributes)
"""

_UPSERT_USERS = """
INSERT INTO {mf}.users AS u (user_id, attributes)
SELECT id, attributes::jsonb
FROM staged_users
WHERE NOT EXISTS (SELECT FROM {mf}.forgotten_users AS f WHERE f.user_id = id)
ON CONFLICT (user_id) DO UPDATE SET attributes = excluded.attributes
WHERE u.attributes IS DISTINCT FROM excluded.attributes
"""

_REMOVE_GONE_ITEMS = """
DELETE FROM {mf}.items
WHERE NOT EXISTS (SELECT FROM staged_items WHERE id = item_id)
"""

_REMOVE_GONE_USERS = """
DELETE FROM {mf}.users
WHERE NOT EXISTS (SELECT FROM staged_users WHERE id = user_id)
"""

_COUNT_MATCHES = {
    "items": """
        SELECT count(*) FILTER (WHERE s.id IS NOT NULL), count(*)
        FROM (SELECT DISTINCT item_id FROM {mf}.ratings) AS r
        LEFT JOIN staged_items AS s ON s.id = r.item_id
    """,
    "users": """
        SELECT count(*) FILTER (WHERE s.id IS NOT NULL), count(*)
        FROM (SELECT DISTINCT user_id FROM {mf}.ratings) AS r
        LEFT JOIN staged_users AS s ON s.id = r.user_id
    """,
}
# Less than half of those that could match: some ids are written in another way.
_FEW = 0.5


def merge_metadata(
    connection: Connection,
    items: Metadata | None,
    users: Metadata | None,
    *,
    replace: bool,
    log: Log,
) -> list[str]:
    """Bring the items and users of the source into their tables, and say what people should know.

    Args:
        connection: in the transaction of the ingest.
        items: what the source has of items; None: nothing.
        users: likewise.
        replace: the source is the truth; what it does not have goes.
        log: takes a line for each table.
    """
    tables = (
        ("items", items, _UPSERT_ITEMS, _REMOVE_GONE_ITEMS),
        ("users", users, _UPSERT_USERS, _REMOVE_GONE_USERS),
    )
    notes = []
    for kind, metadata, upsert, remove_gone in tables:
        # A source without metadata says nothing of them, unless it is the whole truth.
        if metadata is None and not replace:
            continue

        known = metadata or Metadata(rows=(), skipped=0)
        _stage_metadata(connection, f"staged_{kind}", known.rows)
        changed = connection.execute(sql(connection, upsert)).rowcount
        removed = 0
        if replace:
            removed = connection.execute(sql(connection, remove_gone)).rowcount
        log(
            f"{kind}: {len(known.rows):,} read, {changed:,} new or changed, {removed:,} removed, "
            f"{known.skipped:,} lines skipped"
        )
        notes += [*known.notes, *_few_matches(connection, kind, len(known.rows))]
    return notes


def _few_matches(connection: Connection, kind: str, n_read: int) -> list[str]:
    """Return a note if few of the ids that were read are those of ratings.

    Either may be many more: a catalogue that nobody has rated yet, a table of some items only.
    """
    if not n_read:
        return []
    matched, n_rated = connection.execute(sql(connection, _COUNT_MATCHES[kind])).one()
    fewer = min(n_read, n_rated)
    if matched >= fewer * _FEW:
        return []
    called = "titles" if kind == "items" else "users"
    note = (
        f"{matched:,} of {n_read:,} {called} matched one of the {n_rated:,} {kind} with ratings; "
        f"check source.{kind}_uri and its ids"
    )
    return [note]


def _stage_metadata(connection: Connection, name: str, rows: Iterable[MetadataRow]) -> None:
    """Copy `rows` into the new temporary table `name`."""
    with psycopg2_cursor(connection) as cursor:
        cursor.execute(pg.SQL(_STAGE_METADATA).format(pg.Identifier(name)))
    copy_table(connection, (name,), _metadata_table(rows))
    with psycopg2_cursor(connection) as cursor:
        cursor.execute(pg.SQL("ANALYZE {}").format(pg.Identifier(name)))


def _metadata_table(rows: Iterable[MetadataRow]) -> pa.Table:
    """Return rows as the columns of a staging table, attributes as the text of a JSON object."""
    records = [
        {
            "id": row.id,
            "title": row.title,
            "attributes": json.dumps(row.attributes, ensure_ascii=False),
        }
        for row in rows
    ]
    # Named types, since a table without rows or titles would have none.
    schema = pa.schema([(name, pa.string()) for name in ("id", "title", "attributes")])
    return pa.Table.from_pylist(records, schema=schema)
