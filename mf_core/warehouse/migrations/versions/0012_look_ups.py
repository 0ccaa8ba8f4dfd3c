"""The popular list of all items, and of the last days, for the functions of readers.

Revision ID: 0012
Revises: 0011
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.engine import Connection

from mf_core.warehouse.roles import run_named
from mf_core.warehouse.schema import schema_of

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_READERS = Path(__file__).parents[1] / "readers" / "0011.sql"
_FUNCTIONS = (
    "similar(text, integer)",
    "popular(integer, integer, text, text)",
    "audience(text, integer)",
)
_KEY = "popular_items_pkey"
_COMMENTS = (
    "The list for users that a version does not know.",
    "The items of a version, those with the most relevant ratings first.",
)


def upgrade() -> None:
    """Add the column; what is there is of all time."""
    schema = schema_of(op.get_bind())
    days = sa.Column(
        "days",
        sa.Integer(),
        nullable=False,
        server_default="0",
        comment="Ratings of how many days, up to the latest one, are counted; 0: of all time.",
    )
    op.add_column("popular_items", days, schema=schema)
    _replace_key(["model_version", "rank", "days"])
    before, now = _COMMENTS
    op.create_table_comment("popular_items", now, existing_comment=before, schema=schema)


def before_downgrade(connection: Connection) -> None:
    """Bring back the function that does without the column."""
    run_named(connection, _READERS.read_text(encoding="utf-8"))


def downgrade() -> None:
    """Drop it, with the functions that need it."""
    before_downgrade(op.get_bind())
    schema = schema_of(op.get_bind())
    for function in _FUNCTIONS:
        run_named(op.get_bind(), f"DROP FUNCTION IF EXISTS {{mf}}.{function}")
    run_named(op.get_bind(), "DELETE FROM {mf}.popular_items WHERE days > 0")
    _replace_key(["model_version", "rank"])
    op.drop_column("popular_items", "days", schema=schema)
    before, now = _COMMENTS
    op.create_table_comment("popular_items", before, existing_comment=now, schema=schema)


def _replace_key(columns: list[str]) -> None:
    schema = schema_of(op.get_bind())
    op.drop_constraint(_KEY, "popular_items", schema=schema)
    op.create_primary_key(op.f(_KEY), "popular_items", columns, schema=schema)
