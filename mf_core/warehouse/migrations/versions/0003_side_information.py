"""Users and items that a snapshot holds for their attributes only.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

from mf_core.warehouse.schema import schema_of

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _counter(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False, comment=comment)


def upgrade() -> None:
    """Count them."""
    op.add_column(
        "snapshots",
        _counter("unrated_users", "Further users, with attributes and no rating."),
        schema=schema_of(op.get_bind()),
    )
    op.add_column(
        "snapshots",
        _counter("unrated_items", "Further items, with attributes and no rating."),
        schema=schema_of(op.get_bind()),
    )


def downgrade() -> None:
    """Forget them."""
    op.drop_column("snapshots", "unrated_items", schema=schema_of(op.get_bind()))
    op.drop_column("snapshots", "unrated_users", schema=schema_of(op.get_bind()))
