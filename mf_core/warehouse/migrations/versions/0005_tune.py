"""A schema of its own for the studies of `mf tune`, in which Optuna makes its tables.

`alembic_version` is one of them.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the schema."""
    op.execute("CREATE SCHEMA mf_tune")
    op.execute("COMMENT ON SCHEMA mf_tune IS 'Studies of mf tune; the tables are Optuna''s.'")


def downgrade() -> None:
    """Drop it with all studies."""
    op.execute("DROP SCHEMA mf_tune CASCADE")
