"""A schema of its own for the studies of `mf tune`, in which Optuna makes its tables.

`alembic_version` is one of them.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

from mf_core.warehouse.roles import run_named
from mf_core.warehouse.schema import catalogue_of, make_schema

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the schema."""
    connection = op.get_bind()
    make_schema(connection, catalogue_of(connection).tune_schema)
    run_named(
        connection, "COMMENT ON SCHEMA {tune} IS 'Studies of mf tune; the tables are Optuna''s.'"
    )


def downgrade() -> None:
    """Drop it with all studies."""
    run_named(op.get_bind(), "DROP SCHEMA {tune} CASCADE")
