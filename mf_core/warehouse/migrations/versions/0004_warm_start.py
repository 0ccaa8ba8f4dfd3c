"""Which version an evaluated model was started from.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

from mf_core.warehouse.schema import schema_of

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    comment = "Version whose evaluated model its own started from; NULL: a cold start."
    op.add_column(
        "models",
        sa.Column("warm_started_from", sa.BigInteger(), nullable=True, comment=comment),
        schema=schema_of(op.get_bind()),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_column("models", "warm_started_from", schema=schema_of(op.get_bind()))
