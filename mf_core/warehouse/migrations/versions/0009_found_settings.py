"""Settings that searches found, and which of them a version is fitted with.

Revision ID: 0009
Revises: 0008
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from mf_core.warehouse.roles import run_named
from mf_core.warehouse.schema import schema_of

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_READERS = Path(__file__).parents[1] / "readers" / "0008.sql"
_VIEWS = ("monitoring_lists", "monitoring_versions", "model_history")
_SOURCES = "source IN ('night', 'tune')"
# (table, column): its comment before, and now.
_COMMENTS = {
    ("models", "config"): (
        "All settings of the run.",
        "All settings in force: those of the run, with the found ones under them.",
    ),
    ("evaluations", "subject"): (
        "candidate, champion, recent_best, global_mean, biases or popularity.",
        "candidate, champion, recent_best, global_mean, biases, popularity or item_item.",
    ),
}


def upgrade() -> None:
    """Make the table, and the columns that refer to it."""
    schema = schema_of(op.get_bind())
    _make_table(schema)
    _add_columns(schema)
    for (table, column), (_, comment) in _COMMENTS.items():
        op.alter_column(table, column, comment=comment, schema=schema)


def _make_table(schema: str) -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "found_settings",
        sa.Column(
            "found_id",
            sa.BigInteger(),
            sa.Identity(),
            primary_key=True,
            comment="Number of the find, in order.",
        ),
        sa.Column("found_at", time, nullable=False, comment="When the search ended."),
        sa.Column(
            "source",
            sa.Text(),
            sa.CheckConstraint(_SOURCES, name=op.f("found_settings_source_check")),
            nullable=False,
            comment="night: the training of a version searched; tune: `mf tune`.",
        ),
        sa.Column(
            "model_version",
            sa.BigInteger(),
            sa.ForeignKey(
                f"{schema}.models.model_version",
                name=op.f("found_settings_model_version_fkey"),
            ),
            comment="Version whose training searched; NULL: mf tune.",
        ),
        _count("n_ratings", "Training ratings searched on."),
        _count("n_users", "Users with one of them."),
        _count("n_items", "Items with one of them."),
        sa.Column(
            "settings",
            JSONB(),
            nullable=False,
            comment="Values by dotted name; empty: nothing was better than the shipped ones.",
        ),
        sa.Column("grounds", sa.Text(), nullable=False, comment="By which figures, in words."),
        sa.Column(
            "trials", JSONB(), nullable=False, comment="What was tried, each with its figure."
        ),
        sa.Column(
            "fingerprint",
            sa.Text(),
            nullable=False,
            comment="sha256 of the run's own settings that shape a model; they hold under equal "
            "ones.",
        ),
        sa.UniqueConstraint("model_version", name=op.f("found_settings_model_version_key")),
        schema=schema,
        comment="Settings that searches chose, each with the figures that decided.",
    )


def _add_columns(schema: str) -> None:
    comment = "Found settings that it is fitted with, or that its search begins at; NULL: none."
    op.add_column("models", sa.Column("found_id", sa.BigInteger(), comment=comment), schema=schema)
    op.add_column(
        "models",
        sa.Column(
            "searches",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
            comment="Whether its training searches for settings; false once they are on record.",
        ),
        schema=schema,
    )


def _count(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, comment=comment)


def downgrade() -> None:
    """Drop them, with the views that stand on them, and bring back the one of then."""
    schema = schema_of(op.get_bind())
    for view in _VIEWS:
        run_named(op.get_bind(), f"DROP VIEW IF EXISTS {{mf}}.{view}")
    for (table, column), (comment, _) in _COMMENTS.items():
        op.alter_column(table, column, comment=comment, schema=schema)
    for column in ("searches", "found_id"):
        op.drop_column("models", column, schema=schema)
    op.drop_table("found_settings", schema=schema)
    run_named(op.get_bind(), _READERS.read_text(encoding="utf-8"))
