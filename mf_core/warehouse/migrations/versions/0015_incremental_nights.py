"""What tells that nothing is new: of the data, of the parts of a source, of the hidden items.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

from mf_core.warehouse.schema import schema_of

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# (table, column, comment) of texts that older rows have none of.
_OF_DATA = (
    "Hash of all that it was taken from, made by Postgres: equal means the same snapshot; "
    "NULL: not known."
)
_OF_HIDDEN = "sha256 of the items that were hidden when the run took its snapshot; NULL: not known."
_COLUMNS = (
    ("snapshots", "data_fingerprint", _OF_DATA),
    ("models", "hidden_fingerprint", _OF_HIDDEN),
)


def upgrade() -> None:
    """Add the columns and the table."""
    schema = schema_of(op.get_bind())
    for table, name, comment in _COLUMNS:
        op.add_column(table, sa.Column(name, sa.Text(), comment=comment), schema=schema)
    op.create_table(
        "source_parts",
        sa.Column(
            "place",
            sa.Text(collation="C"),
            nullable=False,
            comment="Where the part lies; of a query, its database and its hash.",
        ),
        sa.Column(
            "reading",
            sa.Text(),
            nullable=False,
            comment="sha256 of the settings that change how it is read.",
        ),
        sa.Column("sha256", sa.Text(), nullable=False, comment="sha256 of its content, unpacked."),
        sa.Column(
            "stamp",
            sa.Text(),
            comment="Its size, and when it was changed or its etag; NULL: not known.",
        ),
        sa.Column(
            "header",
            sa.Text(),
            nullable=False,
            comment="How its first line was taken: header, guessed (a row, by its look), or empty.",
        ),
        sa.Column(
            "watermark",
            sa.Text(),
            comment="Of a query: the largest value of source.watermark_column; NULL: none.",
        ),
        sa.Column(
            "batch_id", sa.BigInteger(), nullable=False, comment="Batch that loaded it last."
        ),
        sa.PrimaryKeyConstraint("place", "reading", name=op.f("source_parts_pkey")),
        schema=schema,
        comment="Parts of sources of ratings that are loaded, so that they need not be read again.",
    )


def downgrade() -> None:
    """Drop them; the next night reads everything again."""
    schema = schema_of(op.get_bind())
    op.drop_table("source_parts", schema=schema)
    for table, name, _ in _COLUMNS:
        op.drop_column(table, name, schema=schema)
