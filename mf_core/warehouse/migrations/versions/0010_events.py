"""Events without ratings: what each source's events come to, of which ratings are the sums.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from mf_core.warehouse.schema import schema_of

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ID = sa.Text(collation="C")
# (table, column): its comment before, and now.
_COMMENTS = {
    ("ingest_batches", "mode"): ("merge or replace.", "merge, replace or add."),
    ("ingest_batches", "rows_duplicate"): (
        "Rows that another row of the same source, for the same user and item, replaced.",
        (
            "Rows that another row of the same source, for the same user and item, replaced; of "
            "events: that are counted in one sum with another."
        ),
    ),
    ("ratings", "rating"): (
        "The rating, on the source's scale.",
        "The rating, on the source's scale; of events, the weighted sum.",
    ),
    ("ratings", "rated_at"): (
        "When it was given; NULL: unknown.",
        "When it was given (the last event); NULL: unknown.",
    ),
}
_TABLE_COMMENT_BEFORE = "The current rating of every (user, item) pair."
_TABLE_COMMENT = "The current rating of every (user, item) pair, or the sum of its events."


def upgrade() -> None:
    """Make the tables, and let batches say how events were added up."""
    schema = schema_of(op.get_bind())
    _make_sources(schema)
    _make_events(schema)
    comment = "Events: the weights and the cap that ratings were made with; NULL: ratings."
    op.add_column("ingest_batches", sa.Column("sums", sa.Text(), comment=comment), schema=schema)
    op.create_table_comment("ratings", _TABLE_COMMENT, schema=schema)
    for (table, column), (_, said) in _COMMENTS.items():
        op.alter_column(table, column, comment=said, schema=schema)


def _make_sources(schema: str) -> None:
    op.create_table(
        "event_sources",
        sa.Column(
            "source_id",
            sa.Integer(),
            sa.Identity(),
            primary_key=True,
            comment="Number of the source in events.",
        ),
        sa.Column(
            "uri", sa.Text(), nullable=False, comment="The source; a query also by its hash."
        ),
        sa.Column(
            "contents",
            ARRAY(sa.Text()),
            nullable=False,
            comment="Fingerprints of the contents that its events come from.",
        ),
        sa.UniqueConstraint("uri", name=op.f("event_sources_uri_key")),
        schema=schema,
        comment="Sources whose events count in ratings.",
    )


def _make_events(schema: str) -> None:
    sides = "side IN ('train', 'test')"
    op.create_table(
        "events",
        sa.Column("user_id", _ID, nullable=False, comment="The source's user id."),
        sa.Column("item_id", _ID, nullable=False, comment="The source's item id."),
        sa.Column(
            "event", _ID, nullable=False, comment="Type of the events; empty: they have none."
        ),
        sa.Column("source_id", sa.Integer(), nullable=False, comment="Source that they come from."),
        sa.Column(
            "amount",
            sa.Double(),
            nullable=False,
            comment="Their number, or the sum of their weights.",
        ),
        sa.Column(
            "last_at",
            sa.DateTime(timezone=True),
            comment="When the last one happened; NULL: unknown.",
        ),
        sa.Column(
            "side",
            sa.Text(),
            sa.CheckConstraint(sides, name=op.f("events_side_check")),
            comment="Side that the source gave them (split protocol given).",
        ),
        sa.PrimaryKeyConstraint(
            "user_id", "item_id", "event", "source_id", name=op.f("events_pkey")
        ),
        schema=schema,
        comment="What a source's events of one type come to for a user and an item.",
    )


def downgrade() -> None:
    """Drop them. The sums stay in ratings; to go on adding events takes loading them anew."""
    schema = schema_of(op.get_bind())
    op.drop_column("ingest_batches", "sums", schema=schema)
    op.create_table_comment("ratings", _TABLE_COMMENT_BEFORE, schema=schema)
    for (table, column), (before, _) in _COMMENTS.items():
        op.alter_column(table, column, comment=before, schema=schema)
    for table in ("events", "event_sources"):
        op.drop_table(table, schema=schema)
