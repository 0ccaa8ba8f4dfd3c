"""What people should know of a run's data, however the run ends.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

from mf_core.warehouse.schema import schema_of

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    comment = "What to know of its data; NULL: nothing."
    note = sa.Column("note", sa.Text(), comment=comment)
    op.add_column("runs", note, schema=schema_of(op.get_bind()))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("runs", "note", schema=schema_of(op.get_bind()))
