"""When a run last took a snapshot: one that a run is about to use is not removed.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

from mf_core.warehouse.schema import schema_of

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "snapshots",
        sa.Column(
            "used_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.now(),
            comment="When a run last took it.",
        ),
        schema=schema_of(op.get_bind()),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_column("snapshots", "used_at", schema=schema_of(op.get_bind()))
