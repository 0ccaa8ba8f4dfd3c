"""Lists of models that predict no ratings, since their source holds events.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

from mf_core.warehouse.schema import schema_of

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_TABLES = ("recommendation_rows", "popular_items")


def upgrade() -> None:
    """Let the predicted rating be NULL."""
    schema = schema_of(op.get_bind())
    comments = {
        "recommendation_rows": "The rating head's prediction, within the rating scale; NULL: the "
        "model is of events and predicts none.",
        "popular_items": "The rating head's prediction for an unknown user; NULL: the model is of "
        "events and predicts none.",
    }
    for table, comment in comments.items():
        op.alter_column(table, "predicted_rating", nullable=True, comment=comment, schema=schema)


def downgrade() -> None:
    """Demand one again; lists without any must be gone by then."""
    schema = schema_of(op.get_bind())
    for table in _TABLES:
        op.alter_column(table, "predicted_rating", nullable=False, schema=schema)
