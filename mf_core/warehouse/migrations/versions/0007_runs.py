"""A row for every run, so that one that dies early leaves a trace.

Revision ID: 0007
Revises: 0006
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from mf_core.warehouse.roles import run_named

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_READERS = Path(__file__).parents[1] / "readers" / "0006.sql"
_VIEWS = (
    "monitoring_lists",
    "monitoring_runs",
    "monitoring_versions",
    "monitoring_ingests",
    "monitoring_sizes",
    "model_history",
)
_OUTCOMES = "outcome IN ('running', 'published', 'nothing_new', 'dry_run', 'refused', 'failed')"


def upgrade() -> None:
    """Make the table."""
    time = sa.DateTime(timezone=True)
    op.create_table(
        "runs",
        sa.Column(
            "run_key",
            sa.Text(collation="C"),
            primary_key=True,
            comment="Name of the run.",
        ),
        sa.Column(
            "outcome",
            sa.Text(),
            sa.CheckConstraint(_OUTCOMES, name=op.f("runs_outcome_check")),
            nullable=False,
            comment="running, or how it ended.",
        ),
        sa.Column("step", sa.Text(), comment="Step that ended it; NULL: it did not end early."),
        sa.Column("message", sa.Text(), comment="What that step said; NULL: nothing."),
        sa.Column(
            "model_version",
            sa.BigInteger(),
            sa.ForeignKey("mf.models.model_version", name=op.f("runs_model_version_fkey")),
            comment="Version that it made; NULL: none.",
        ),
        sa.Column(
            "started_by",
            sa.Text(),
            nullable=False,
            comment="Person or system that started it.",
        ),
        sa.Column("started_at", time, nullable=False, comment="When it was last started."),
        sa.Column("ended_at", time, comment="When it ended; NULL: it runs, or was killed."),
        schema="mf",
        comment="Every run, those included that died before they had a version.",
    )
    op.create_index(op.f("runs_started_at_idx"), "runs", ["started_at"], schema="mf")


def downgrade() -> None:
    """Drop it, with the views that later code has built on it, and bring back the one of then."""
    for view in _VIEWS:
        run_named(op.get_bind(), f"DROP VIEW IF EXISTS {{mf}}.{view}")
    run_named(op.get_bind(), _READERS.read_text(encoding="utf-8"))
    op.drop_table("runs", schema="mf")
