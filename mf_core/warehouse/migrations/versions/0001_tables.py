"""Tables

Revision ID: 0001
Revises:
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _counter(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False, comment=comment)


def _text(name: str, comment: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, comment=comment)


def _optional(name: str, type_: Any, comment: str) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=True, comment=comment)


def _time(name: str, comment: str, **options: Any) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), comment=comment, **options)


def upgrade() -> None:
    """Apply the change."""
    _create_forgotten_users()
    _create_hidden_items()
    _create_ingest_batches()
    _create_items()
    _create_recommendation_rows()
    _create_snapshots()
    _create_users()
    _create_evaluations()
    _create_models()
    _create_ratings()
    _create_rejected_ratings()
    _create_gate_decisions()
    _create_live()
    _create_model_artifacts()
    _create_popular_items()
    _create_promotions()
    _create_similar_items()


def _create_forgotten_users() -> None:
    op.create_table(
        "forgotten_users",
        sa.Column(
            "user_id",
            sa.Text(collation="C"),
            nullable=False,
            comment="User whose ratings are never loaded again.",
        ),
        _time("forgotten_at", "Since when.", server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("forgotten_users_pkey")),
        schema="mf",
        comment="Users that an ingest skips.",
    )


def _create_hidden_items() -> None:
    op.create_table(
        "hidden_items",
        sa.Column(
            "item_id",
            sa.Text(collation="C"),
            nullable=False,
            comment="Item that readers must not see.",
        ),
        sa.Column("reason", sa.Text(), server_default="", nullable=False, comment="Why."),
        sa.Column(
            "hidden_by",
            sa.Text(),
            server_default=sa.text("CURRENT_USER"),
            nullable=False,
            comment="Who hid it.",
        ),
        _time("hidden_at", "Since when.", server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("item_id", name=op.f("hidden_items_pkey")),
        schema="mf",
        comment="Items hidden from readers at once, whatever version is live.",
    )


def _create_ingest_batches() -> None:
    op.create_table(
        "ingest_batches",
        sa.Column(
            "batch_id",
            sa.BigInteger(),
            sa.Identity(always=False),
            nullable=False,
            comment="Number of the batch, in order of loading.",
        ),
        _text("source_uri", "Where the rows came from."),
        _text("content_sha256", "sha256 of the source's bytes."),
        _text("fingerprint", "sha256 of content and reading settings; equal means nothing new."),
        _text("mode", "merge or replace."),
        _text("state", "loaded, or refused as a whole."),
        _time("started_at", "When reading began.", nullable=False),
        _time("finished_at", "When the batch was committed.", nullable=False),
        _counter("rows_read", "Rows in the source."),
        _counter("rows_rejected", "Rows in rejected_ratings."),
        _counter(
            "rows_duplicate",
            "Rows that another row of the same source, for the same user and item, replaced.",
        ),
        _counter("rows_inserted", "Ratings that were new."),
        _counter("rows_updated", "Ratings whose value or date changed."),
        _counter("rows_unchanged", "Ratings that stood there already."),
        _counter("rows_removed", "Ratings that the source no longer has (replace)."),
        _counter("total_ratings", "Ratings in the table after the batch."),
        sa.PrimaryKeyConstraint("batch_id", name=op.f("ingest_batches_pkey")),
        schema="mf",
        comment="One row per batch of ratings that was offered.",
    )
    op.create_index(
        op.f("ingest_batches_fingerprint_idx"),
        "ingest_batches",
        ["fingerprint"],
        unique=False,
        schema="mf",
    )


def _create_items() -> None:
    op.create_table(
        "items",
        sa.Column(
            "item_id", sa.Text(collation="C"), nullable=False, comment="The source's item id."
        ),
        _optional("title", sa.Text(), "Title for people to read."),
        sa.Column(
            "attributes",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="{}",
            nullable=False,
            comment="Whatever else the source says of the item.",
        ),
        sa.PrimaryKeyConstraint("item_id", name=op.f("items_pkey")),
        schema="mf",
        comment="What is known of items; optional.",
    )


def _create_recommendation_rows() -> None:
    op.create_table(
        "recommendation_rows",
        sa.Column(
            "model_version",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="Version that the row belongs to.",
        ),
        sa.Column("user_id", sa.Text(collation="C"), nullable=False, comment="User."),
        sa.Column(
            "rank",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="Place in the stored list, from 1; the reserve follows the list.",
        ),
        sa.Column("item_id", sa.Text(collation="C"), nullable=False, comment="Recommended item."),
        sa.Column("score", sa.Double(), nullable=False, comment="What the list is ordered by."),
        sa.Column(
            "predicted_rating",
            sa.Double(),
            nullable=False,
            comment="The rating head's prediction, within the rating scale.",
        ),
        _optional(
            "predicted_rating_sd",
            sa.Double(),
            "Standard deviation of the predicted rating; NULL: the solver gives none.",
        ),
        _text("source", "model, or popular for a user without a positive rating."),
        _time("generated_at", "When the row was computed.", nullable=False),
        sa.PrimaryKeyConstraint(
            "model_version", "user_id", "rank", name=op.f("recommendation_rows_pkey")
        ),
        schema="mf",
        comment="Recommendations of the kept versions, one partition each, with their reserve; "
        "readers use the view.",
        postgresql_partition_by="LIST (model_version)",
    )


def _create_snapshots() -> None:
    op.create_table(
        "snapshots",
        _text("snapshot_id", "First half of the sha256 over the sorted content and the split."),
        _text("split_id", "Protocol, seed and fraction, hashed: equal means comparable sides."),
        _text("uri", "Where the snapshot lies."),
        _text("sha256", "sha256 of the snapshot's manifest."),
        _text("protocol", "hash, temporal, leave_last or given."),
        _counter("n_train", "Ratings on the training side."),
        _counter("n_test", "Ratings on the test side."),
        _counter("n_users", "Users on either side."),
        _counter("n_items", "Items on either side."),
        _counter("cold_users", "Users on the test side only."),
        _counter("cold_items", "Items on the test side only."),
        _counter("cold_test_ratings", "Test ratings of a cold user or item."),
        _time(
            "created_at",
            "When it was first written.",
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("snapshot_id", name=op.f("snapshots_pkey")),
        schema="mf",
        comment="Immutable train/test snapshots.",
    )


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column(
            "user_id", sa.Text(collation="C"), nullable=False, comment="The source's user id."
        ),
        sa.Column(
            "attributes",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="{}",
            nullable=False,
            comment="Whatever the source says of the user.",
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("users_pkey")),
        schema="mf",
        comment="What is known of users; optional.",
    )


def _create_evaluations() -> None:
    op.create_table(
        "evaluations",
        _text("snapshot_id", "Snapshot whose test rows were used."),
        sa.Column(
            "model_version",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="Candidate of the evaluation.",
        ),
        _text("subject", "candidate, champion, recent_best, global_mean, biases or popularity."),
        _text("head", "rating or ranking."),
        _text("metric", "rmse, mae, average_error, ndcg_at_10, ..."),
        _text("slice", "all, warm_both, or a group of users or items."),
        sa.Column("value", sa.Double(), nullable=False, comment="The figure."),
        _optional("low", sa.Double(), "Lower end of its 95% interval (bootstrap over users)."),
        _optional("high", sa.Double(), "Upper end of its 95% interval."),
        sa.Column(
            "n",
            sa.BigInteger(),
            nullable=False,
            comment="Ratings (rating head) or users (ranking head) behind it.",
        ),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["mf.snapshots.snapshot_id"], name=op.f("evaluations_snapshot_id_fkey")
        ),
        sa.PrimaryKeyConstraint(
            "snapshot_id",
            "model_version",
            "subject",
            "head",
            "metric",
            "slice",
            name=op.f("evaluations_pkey"),
        ),
        schema="mf",
        comment="Every figure measured on test rows.",
    )


def _create_models() -> None:
    op.create_table(
        "models",
        sa.Column(
            "model_version",
            sa.BigInteger(),
            sa.Identity(always=False),
            nullable=False,
            comment="Number of the run's bundle of models and lists.",
        ),
        _text("run_key", "The run that made it; the same run gets the same version."),
        sa.Column(
            "state",
            sa.Text(),
            server_default="created",
            nullable=False,
            comment="created, trained, evaluated, refused, approved, published or retired.",
        ),
        _text("snapshot_id", "Snapshot that it was trained on."),
        _text("split_id", "The snapshot's split."),
        _optional(
            "champion_version",
            sa.BigInteger(),
            "Live version that it was judged against; NULL: none.",
        ),
        _text("training_fingerprint", "sha256 of the settings that shape the result."),
        sa.Column(
            "config",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="All settings of the run.",
        ),
        _text("code_version", "Version of the code."),
        _optional("device", sa.Text(), "Device that it was trained on."),
        _optional("fit_seconds", sa.Double(), "Seconds of training, imports excluded."),
        sa.Column(
            "top_n",
            sa.Integer(),
            nullable=False,
            comment="Recommendations per user that readers see.",
        ),
        _time(
            "created_at",
            "When the run took its snapshot.",
            server_default=sa.text("now()"),
            nullable=False,
        ),
        _time("published_at", "When it first went live.", nullable=True),
        _time("retired_at", "When its rows were dropped.", nullable=True),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["mf.snapshots.snapshot_id"], name=op.f("models_snapshot_id_fkey")
        ),
        sa.PrimaryKeyConstraint("model_version", name=op.f("models_pkey")),
        sa.UniqueConstraint("run_key", name=op.f("models_run_key_key")),
        schema="mf",
        comment="Every model version: its state and its lineage.",
    )
    op.create_index(
        op.f("models_snapshot_id_idx"), "models", ["snapshot_id"], unique=False, schema="mf"
    )


def _create_ratings() -> None:
    op.create_table(
        "ratings",
        sa.Column(
            "user_id", sa.Text(collation="C"), nullable=False, comment="The source's user id."
        ),
        sa.Column(
            "item_id", sa.Text(collation="C"), nullable=False, comment="The source's item id."
        ),
        sa.Column(
            "rating", sa.Double(), nullable=False, comment="The rating, on the source's scale."
        ),
        _time("rated_at", "When it was given; NULL: unknown.", nullable=True),
        _optional("side", sa.Text(), "Side that the source gave the row (split protocol given)."),
        sa.Column(
            "batch_id", sa.BigInteger(), nullable=False, comment="Batch that last set the row."
        ),
        sa.PrimaryKeyConstraint("user_id", "item_id", name=op.f("ratings_pkey")),
        schema="mf",
        comment="The current rating of every (user, item) pair.",
    )


def _create_rejected_ratings() -> None:
    op.create_table(
        "rejected_ratings",
        sa.Column("batch_id", sa.BigInteger(), nullable=False, comment="Batch that held the row."),
        _text("file", "File, or member of an archive, that held the row."),
        sa.Column(
            "line",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="Line number in the file, from 1.",
        ),
        _text("raw", "The row as it came; NUL bytes are written \\x00."),
        _text("reason", "What was wrong with it."),
        sa.ForeignKeyConstraint(
            ["batch_id"],
            ["mf.ingest_batches.batch_id"],
            name=op.f("rejected_ratings_batch_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("batch_id", "file", "line", name=op.f("rejected_ratings_pkey")),
        schema="mf",
        comment="Rows that were not loaded, and why.",
    )


def _create_gate_decisions() -> None:
    op.create_table(
        "gate_decisions",
        sa.Column(
            "decision_id",
            sa.BigInteger(),
            sa.Identity(always=False),
            nullable=False,
            comment="Number of the decision, in order.",
        ),
        sa.Column("model_version", sa.BigInteger(), nullable=False, comment="Candidate."),
        _optional(
            "champion_version",
            sa.BigInteger(),
            "Live version that it was judged against; NULL: none.",
        ),
        sa.Column(
            "stage",
            sa.Text(),
            server_default="evaluated",
            nullable=False,
            comment="evaluated: the gate; refit: the check of the refit; override: a person's.",
        ),
        sa.Column("approved", sa.Boolean(), nullable=False, comment="Whether it may go on."),
        sa.Column(
            "reasons",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="List of rules: rule, passed, text, value, limit.",
        ),
        sa.Column(
            "decided_by",
            sa.Text(),
            server_default="gate",
            nullable=False,
            comment="gate, or the person who overrode it.",
        ),
        _time("decided_at", "When.", server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_version"],
            ["mf.models.model_version"],
            name=op.f("gate_decisions_model_version_fkey"),
        ),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("gate_decisions_pkey")),
        schema="mf",
        comment="The gate's verdicts, rule by rule, and people's overrides.",
    )
    op.create_index(
        op.f("gate_decisions_model_version_idx"),
        "gate_decisions",
        ["model_version"],
        unique=False,
        schema="mf",
    )


def _create_live() -> None:
    op.create_table(
        "live",
        sa.Column(
            "only",
            sa.Boolean(),
            server_default=sa.text("true"),
            nullable=False,
            comment="Holds the table to one row.",
        ),
        _optional("model_version", sa.BigInteger(), "Version that readers see; NULL: none yet."),
        sa.ForeignKeyConstraint(
            ["model_version"], ["mf.models.model_version"], name=op.f("live_model_version_fkey")
        ),
        sa.PrimaryKeyConstraint("only", name=op.f("live_pkey")),
        schema="mf",
        comment="One row: which version readers see.",
    )


def _create_model_artifacts() -> None:
    op.create_table(
        "model_artifacts",
        sa.Column(
            "model_version",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="Version.",
        ),
        _text("head", "rating or ranking."),
        _text("stage", "evaluated or refit."),
        _text("uri", "Where the factors lie."),
        _text("sha256", "sha256 of the artifact's manifest."),
        _text("split_id", "Split whose training side (evaluated) or both sides (refit) it saw."),
        sa.Column(
            "iterations",
            sa.Integer(),
            nullable=False,
            comment="Iterations that the fit ended with.",
        ),
        sa.ForeignKeyConstraint(
            ["model_version"],
            ["mf.models.model_version"],
            name=op.f("model_artifacts_model_version_fkey"),
        ),
        sa.PrimaryKeyConstraint(
            "model_version", "head", "stage", name=op.f("model_artifacts_pkey")
        ),
        schema="mf",
        comment="The factor models of each version.",
    )


def _create_popular_items() -> None:
    op.create_table(
        "popular_items",
        sa.Column(
            "model_version",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="Version.",
        ),
        sa.Column(
            "rank",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="Place in the list, from 1.",
        ),
        sa.Column("item_id", sa.Text(collation="C"), nullable=False, comment="Item."),
        sa.Column("score", sa.Double(), nullable=False, comment="Number of relevant ratings."),
        sa.Column(
            "predicted_rating",
            sa.Double(),
            nullable=False,
            comment="The rating head's prediction for an unknown user.",
        ),
        sa.ForeignKeyConstraint(
            ["model_version"],
            ["mf.models.model_version"],
            name=op.f("popular_items_model_version_fkey"),
        ),
        sa.PrimaryKeyConstraint("model_version", "rank", name=op.f("popular_items_pkey")),
        schema="mf",
        comment="The list for users that a version does not know.",
    )


def _create_promotions() -> None:
    op.create_table(
        "promotions",
        sa.Column(
            "promotion_id",
            sa.BigInteger(),
            sa.Identity(always=False),
            nullable=False,
            comment="Number of the change of mf.live, in order.",
        ),
        sa.Column(
            "model_version", sa.BigInteger(), nullable=False, comment="Version that went live."
        ),
        _optional("previous_version", sa.BigInteger(), "Version that was live before; NULL: none."),
        _text("action", "publish or rollback."),
        _time("promoted_at", "When.", server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column(
            "promoted_by",
            sa.Text(),
            server_default=sa.text("CURRENT_USER"),
            nullable=False,
            comment="Database user that did it.",
        ),
        sa.ForeignKeyConstraint(
            ["model_version"],
            ["mf.models.model_version"],
            name=op.f("promotions_model_version_fkey"),
        ),
        sa.PrimaryKeyConstraint("promotion_id", name=op.f("promotions_pkey")),
        schema="mf",
        comment="Every change of mf.live.",
    )


def _create_similar_items() -> None:
    op.create_table(
        "similar_items",
        sa.Column(
            "model_version",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="Version.",
        ),
        sa.Column("item_id", sa.Text(collation="C"), nullable=False, comment="Item."),
        sa.Column(
            "rank",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="Place in the list, from 1.",
        ),
        sa.Column(
            "similar_item_id", sa.Text(collation="C"), nullable=False, comment="Similar item."
        ),
        sa.Column(
            "score",
            sa.Double(),
            nullable=False,
            comment="Cosine of the two items' ranking factors.",
        ),
        sa.ForeignKeyConstraint(
            ["model_version"],
            ["mf.models.model_version"],
            name=op.f("similar_items_model_version_fkey"),
        ),
        sa.PrimaryKeyConstraint(
            "model_version", "item_id", "rank", name=op.f("similar_items_pkey")
        ),
        schema="mf",
        comment="The most similar items of each item.",
    )


def downgrade() -> None:
    """Take the change back."""
    op.drop_table("similar_items", schema="mf")
    op.drop_table("promotions", schema="mf")
    op.drop_table("popular_items", schema="mf")
    op.drop_table("model_artifacts", schema="mf")
    op.drop_table("live", schema="mf")
    op.drop_index(
        op.f("gate_decisions_model_version_idx"), table_name="gate_decisions", schema="mf"
    )
    op.drop_table("gate_decisions", schema="mf")
    op.drop_table("rejected_ratings", schema="mf")
    op.drop_table("ratings", schema="mf")
    op.drop_index(op.f("models_snapshot_id_idx"), table_name="models", schema="mf")
    op.drop_table("models", schema="mf")
    op.drop_table("evaluations", schema="mf")
    op.drop_table("users", schema="mf")
    op.drop_table("snapshots", schema="mf")
    op.drop_table("recommendation_rows", schema="mf")
    op.drop_table("items", schema="mf")
    op.drop_index(op.f("ingest_batches_fingerprint_idx"), table_name="ingest_batches", schema="mf")
    op.drop_table("ingest_batches", schema="mf")
    op.drop_table("hidden_items", schema="mf")
    op.drop_table("forgotten_users", schema="mf")
