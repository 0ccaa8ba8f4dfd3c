"""The warehouse's tables (Postgres schema `mf`), as SQLAlchemy Core.

The views and the function for readers, with their comments and grants, stand in `readers.sql`. Ids
are text in collation C, so that Postgres sorts them as Python does.
"""

from typing import Literal, get_args

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    false,
    func,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB

SCHEMA = "mf"
State = Literal[
    "created",
    "trained",
    "evaluated",
    "refused",
    "approved",
    "dry_run",
    "published",
    "retired",
    "stopped",
]
STATES: tuple[State, ...] = get_args(State)
"""Where a model version may stand; `warehouse/versions.py` knows which may follow which."""

Outcome = Literal["running", "published", "nothing_new", "dry_run", "refused", "failed"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""How a run may stand or end; `warehouse/runs.py` decides which."""

# Migrations drop constraints by name, so Postgres does not choose the names.
metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    },
)

_ID = Text(collation="C")
_TIME = DateTime(timezone=True)


def _counter(name: str, comment: str) -> Column[int]:
    """Return a column of numbers that start from 0."""
    return Column(name, BigInteger, nullable=False, server_default="0", comment=comment)


def _version(comment: str) -> Column[int]:
    """Return the column `model_version` as part of a primary key, without a foreign key."""
    return Column(
        "model_version",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        nullable=False,
        comment=comment,
    )


ingest_batches = Table(
    "ingest_batches",
    metadata,
    Column(
        "batch_id",
        BigInteger,
        Identity(),
        primary_key=True,
        comment="Number of the batch, in order of loading.",
    ),
    Column("source_uri", Text, nullable=False, comment="Where the rows came from."),
    Column("content_sha256", Text, nullable=False, comment="sha256 of the source's bytes."),
    Column(
        "fingerprint",
        Text,
        nullable=False,
        comment="sha256 of content and reading settings; equal means nothing new.",
    ),
    Column(
        "mode",
        Text,
        CheckConstraint("mode IN ('merge', 'replace')", name="mode"),
        nullable=False,
        comment="merge or replace.",
    ),
    Column(
        "state",
        Text,
        CheckConstraint("state IN ('loaded', 'refused')", name="state"),
        nullable=False,
        comment="loaded, or refused as a whole.",
    ),
    Column("started_at", _TIME, nullable=False, comment="When reading began."),
    Column("finished_at", _TIME, nullable=False, comment="When the batch was committed."),
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
    Index(None, "fingerprint"),
    comment="One row per batch of ratings that was offered.",
)

ratings = Table(
    "ratings",
    metadata,
    Column("user_id", _ID, primary_key=True, comment="The source's user id."),
    Column("item_id", _ID, primary_key=True, comment="The source's item id."),
    Column("rating", Double, nullable=False, comment="The rating, on the source's scale."),
    Column("rated_at", _TIME, comment="When it was given; NULL: unknown."),
    Column(
        "side",
        Text,
        CheckConstraint("side IN ('train', 'test')", name="side"),
        comment="Side that the source gave the row (split protocol given).",
    ),
    # No foreign key: its check of every row costs two thirds of a load.
    Column("batch_id", BigInteger, nullable=False, comment="Batch that last set the row."),
    comment="The current rating of every (user, item) pair.",
)

rejected_ratings = Table(
    "rejected_ratings",
    metadata,
    Column(
        "batch_id",
        BigInteger,
        ForeignKey(ingest_batches.c.batch_id),
        primary_key=True,
        comment="Batch that held the row.",
    ),
    Column(
        "file", Text, primary_key=True, comment="File, or member of an archive, that held the row."
    ),
    Column(
        "line",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="Line number in the file, from 1.",
    ),
    Column("raw", Text, nullable=False, comment="The row as it came; NUL bytes are written \\x00."),
    Column("reason", Text, nullable=False, comment="What was wrong with it."),
    comment="Rows that were not loaded, and why.",
)

items = Table(
    "items",
    metadata,
    Column("item_id", _ID, primary_key=True, comment="The source's item id."),
    Column("title", Text, comment="Title for people to read."),
    Column(
        "attributes",
        JSONB,
        nullable=False,
        server_default="{}",
        comment="Whatever else the source says of the item.",
    ),
    comment="What is known of items; optional.",
)

users = Table(
    "users",
    metadata,
    Column("user_id", _ID, primary_key=True, comment="The source's user id."),
    Column(
        "attributes",
        JSONB,
        nullable=False,
        server_default="{}",
        comment="Whatever the source says of the user.",
    ),
    comment="What is known of users; optional.",
)

hidden_items = Table(
    "hidden_items",
    metadata,
    Column("item_id", _ID, primary_key=True, comment="Item that readers must not see."),
    Column("reason", Text, nullable=False, server_default="", comment="Why."),
    Column(
        "hidden_by", Text, nullable=False, server_default=func.current_user(), comment="Who hid it."
    ),
    Column("hidden_at", _TIME, nullable=False, server_default=func.now(), comment="Since when."),
    comment="Items hidden from readers at once, whatever version is live.",
)

forgotten_users = Table(
    "forgotten_users",
    metadata,
    Column("user_id", _ID, primary_key=True, comment="User whose ratings are never loaded again."),
    Column("forgotten_at", _TIME, nullable=False, server_default=func.now(), comment="Since when."),
    comment="Users that an ingest skips.",
)

snapshots = Table(
    "snapshots",
    metadata,
    Column(
        "snapshot_id",
        Text,
        primary_key=True,
        comment="First half of the sha256 over the sorted content and the split.",
    ),
    Column(
        "split_id",
        Text,
        nullable=False,
        comment="Protocol, seed and fraction, hashed: equal means comparable sides.",
    ),
    Column("uri", Text, nullable=False, comment="Where the snapshot lies."),
    Column("sha256", Text, nullable=False, comment="sha256 of the snapshot's manifest."),
    Column("protocol", Text, nullable=False, comment="hash, temporal, leave_last or given."),
    _counter("n_train", "Ratings on the training side."),
    _counter("n_test", "Ratings on the test side."),
    _counter("n_users", "Users on either side."),
    _counter("n_items", "Items on either side."),
    _counter("cold_users", "Users on the test side only."),
    _counter("cold_items", "Items on the test side only."),
    _counter("cold_test_ratings", "Test ratings of a cold user or item."),
    Column(
        "created_at",
        _TIME,
        nullable=False,
        server_default=func.now(),
        comment="When it was first written.",
    ),
    _counter("unrated_users", "Further users, with attributes and no rating."),
    _counter("unrated_items", "Further items, with attributes and no rating."),
    Column(
        "used_at",
        _TIME,
        nullable=False,
        server_default=func.now(),
        comment="When a run last took it.",
    ),
    comment="Immutable train/test snapshots.",
)

models = Table(
    "models",
    metadata,
    Column(
        "model_version",
        BigInteger,
        Identity(),
        primary_key=True,
        comment="Number of the run's bundle of models and lists.",
    ),
    Column(
        "run_key",
        Text,
        unique=True,
        nullable=False,
        comment="The run that made it; the same run gets the same version.",
    ),
    Column(
        "state",
        Text,
        CheckConstraint(f"state IN {STATES}", name="state"),
        nullable=False,
        server_default="created",
        comment="One of the states of docs/architecture.md, such as approved or published.",
    ),
    Column("stopped_in", Text, comment="State that a stopped run had reached; NULL: it goes on."),
    Column(
        "snapshot_id",
        Text,
        ForeignKey(snapshots.c.snapshot_id),
        nullable=False,
        comment="Snapshot that it was trained on.",
    ),
    Column("split_id", Text, nullable=False, comment="The snapshot's split."),
    Column(
        "champion_version",
        BigInteger,
        comment="Live version that it was judged against; NULL: none.",
    ),
    Column(
        "warm_started_from",
        BigInteger,
        comment="Version whose evaluated model its own started from; NULL: a cold start.",
    ),
    Column(
        "training_fingerprint",
        Text,
        nullable=False,
        comment="sha256 of the settings and the code that shape the result.",
    ),
    Column(
        "config",
        JSONB,
        nullable=False,
        comment="All settings in force: those of the run, with the found ones under them.",
    ),
    Column(
        "found_id",
        BigInteger,
        comment="Found settings that it is fitted with, or that its search begins at; NULL: none.",
    ),
    Column(
        "searches",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="Whether its training searches for settings; false once they are on record.",
    ),
    Column("code_version", Text, nullable=False, comment="Version of the code."),
    Column("device", Text, comment="Device that it was trained on."),
    Column("fit_seconds", Double, comment="Seconds of training, imports excluded."),
    Column("top_n", Integer, nullable=False, comment="Recommendations per user that readers see."),
    Column(
        "created_at",
        _TIME,
        nullable=False,
        server_default=func.now(),
        comment="When the run took its snapshot.",
    ),
    Column("published_at", _TIME, comment="When it first went live."),
    Column("retired_at", _TIME, comment="When its rows were dropped."),
    Index(None, "snapshot_id"),
    comment="Every model version: its state and its lineage.",
)

found_settings = Table(
    "found_settings",
    metadata,
    Column(
        "found_id",
        BigInteger,
        Identity(),
        primary_key=True,
        comment="Number of the find, in order.",
    ),
    Column("found_at", _TIME, nullable=False, comment="When the search ended."),
    Column(
        "source",
        Text,
        CheckConstraint("source IN ('night', 'tune')", name="source"),
        nullable=False,
        comment="night: the training of a version searched; tune: `mf tune`.",
    ),
    Column(
        "model_version",
        BigInteger,
        ForeignKey(models.c.model_version),
        unique=True,
        comment="Version whose training searched; NULL: mf tune.",
    ),
    Column("n_ratings", BigInteger, nullable=False, comment="Training ratings searched on."),
    Column("n_users", BigInteger, nullable=False, comment="Users with one of them."),
    Column("n_items", BigInteger, nullable=False, comment="Items with one of them."),
    Column(
        "settings",
        JSONB,
        nullable=False,
        comment="Values by dotted name; empty: nothing was better than the shipped ones.",
    ),
    Column("grounds", Text, nullable=False, comment="By which figures, in words."),
    Column("trials", JSONB, nullable=False, comment="What was tried, each with its figure."),
    Column(
        "fingerprint",
        Text,
        nullable=False,
        comment="sha256 of the run's own settings that shape a model; they hold under equal ones.",
    ),
    comment="Settings that searches chose, each with the figures that decided.",
)

runs = Table(
    "runs",
    metadata,
    Column("run_key", _ID, primary_key=True, comment="Name of the run."),
    Column(
        "outcome",
        Text,
        CheckConstraint(f"outcome IN {OUTCOMES}", name="outcome"),
        nullable=False,
        comment="running, or how it ended.",
    ),
    Column("step", Text, comment="Step that ended it; NULL: it did not end early."),
    Column("message", Text, comment="What that step said; NULL: nothing."),
    Column(
        "model_version",
        BigInteger,
        ForeignKey(models.c.model_version),
        comment="Version that it made; NULL: none.",
    ),
    Column("started_by", Text, nullable=False, comment="Person or system that started it."),
    Column("started_at", _TIME, nullable=False, comment="When it was last started."),
    Column("ended_at", _TIME, comment="When it ended; NULL: it runs, or was killed."),
    Index(None, "started_at"),
    comment="Every run, those included that died before they had a version.",
)

model_artifacts = Table(
    "model_artifacts",
    metadata,
    Column(
        "model_version",
        BigInteger,
        ForeignKey(models.c.model_version),
        primary_key=True,
        autoincrement=False,
        comment="Version.",
    ),
    Column(
        "head",
        Text,
        CheckConstraint("head IN ('rating', 'ranking')", name="head"),
        primary_key=True,
        comment="rating or ranking.",
    ),
    Column(
        "stage",
        Text,
        CheckConstraint("stage IN ('evaluated', 'refit')", name="stage"),
        primary_key=True,
        comment="evaluated or refit.",
    ),
    Column("uri", Text, nullable=False, comment="Where the factors lie."),
    Column("sha256", Text, nullable=False, comment="sha256 of the artifact's manifest."),
    Column(
        "split_id",
        Text,
        nullable=False,
        comment="Split whose training side (evaluated) or both sides (refit) it saw.",
    ),
    Column("iterations", Integer, nullable=False, comment="Iterations that the fit ended with."),
    comment="The factor models of each version.",
)

# A promotion is one UPDATE of this row, so that readers never see a mixture of two versions.
live = Table(
    "live",
    metadata,
    Column(
        "only",
        Boolean,
        CheckConstraint("only", name="only"),
        primary_key=True,
        server_default=true(),
        comment="Holds the table to one row.",
    ),
    Column(
        "model_version",
        BigInteger,
        ForeignKey(models.c.model_version),
        comment="Version that readers see; NULL: none yet.",
    ),
    comment="One row: which version readers see.",
)

promotions = Table(
    "promotions",
    metadata,
    Column(
        "promotion_id",
        BigInteger,
        Identity(),
        primary_key=True,
        comment="Number of the change of mf.live, in order.",
    ),
    Column(
        "model_version",
        BigInteger,
        ForeignKey(models.c.model_version),
        nullable=False,
        comment="Version that went live.",
    ),
    Column("previous_version", BigInteger, comment="Version that was live before; NULL: none."),
    Column(
        "action",
        Text,
        CheckConstraint("action IN ('publish', 'rollback')", name="action"),
        nullable=False,
        comment="publish or rollback.",
    ),
    Column(
        "promoted_at", _TIME, nullable=False, server_default=func.clock_timestamp(), comment="When."
    ),
    Column(
        "promoted_by",
        Text,
        nullable=False,
        server_default=func.current_user(),
        comment="Person or system that did it.",
    ),
    Column(
        "how",
        Text,
        CheckConstraint("how IN ('gate', 'override', 'rollback')", name="how"),
        nullable=False,
        comment="By the gate's approval, a person's override of its refusal, or a rollback.",
    ),
    Column("overridden_by", Text, comment="Person who overrode the gate's refusal; NULL: nobody."),
    Column("reason", Text, comment="Why the refusal was overridden; NULL: it was not."),
    comment="Every change of mf.live.",
)

evaluations = Table(
    "evaluations",
    metadata,
    Column(
        "snapshot_id",
        Text,
        ForeignKey(snapshots.c.snapshot_id),
        primary_key=True,
        comment="Snapshot whose test rows were used.",
    ),
    _version("Candidate of the evaluation."),
    Column(
        "subject",
        Text,
        primary_key=True,
        comment="candidate, champion, recent_best, global_mean, biases or popularity.",
    ),
    Column("head", Text, primary_key=True, comment="rating or ranking."),
    Column("metric", Text, primary_key=True, comment="rmse, mae, average_error, ndcg_at_10, ..."),
    Column(
        "slice", Text, primary_key=True, comment="all, warm_both, or a group of users or items."
    ),
    Column("value", Double, nullable=False, comment="The figure."),
    Column("low", Double, comment="Lower end of its 95% interval (bootstrap over users)."),
    Column("high", Double, comment="Upper end of its 95% interval."),
    Column(
        "n",
        BigInteger,
        nullable=False,
        comment="Ratings (rating head) or users (ranking head) behind it.",
    ),
    comment="Every figure measured on test rows.",
)

# Rows are only ever added, so that a refusal stays on record beside the override of it.
gate_decisions = Table(
    "gate_decisions",
    metadata,
    Column(
        "decision_id",
        BigInteger,
        Identity(),
        primary_key=True,
        comment="Number of the decision, in order.",
    ),
    Column(
        "model_version",
        BigInteger,
        ForeignKey(models.c.model_version),
        nullable=False,
        comment="Candidate.",
    ),
    Column(
        "champion_version",
        BigInteger,
        comment="Live version that it was judged against; NULL: none.",
    ),
    Column(
        "stage",
        Text,
        nullable=False,
        server_default="evaluated",
        comment="evaluated: the gate; refit: the check of the refit; override: a person's.",
    ),
    Column("approved", Boolean, nullable=False, comment="Whether it may go on."),
    Column(
        "reasons", JSONB, nullable=False, comment="List of rules: rule, passed, text, value, limit."
    ),
    Column(
        "decided_by",
        Text,
        nullable=False,
        server_default="gate",
        comment="gate, or the person who overrode it.",
    ),
    Column(
        "decided_at", _TIME, nullable=False, server_default=func.clock_timestamp(), comment="When."
    ),
    Index(None, "model_version"),
    comment="The gate's verdicts, rule by rule, and people's overrides.",
)

# A partition for each version: a version goes live, and its rows are dropped later, without a row
# of another version being touched.
recommendation_rows = Table(
    "recommendation_rows",
    metadata,
    _version("Version that the row belongs to."),
    Column("user_id", _ID, primary_key=True, comment="User."),
    Column(
        "rank",
        Integer,
        primary_key=True,
        autoincrement=False,
        comment="Place in the stored list, from 1; the reserve follows the list.",
    ),
    Column("item_id", _ID, nullable=False, comment="Recommended item."),
    Column("score", Double, nullable=False, comment="What the list is ordered by."),
    Column(
        "predicted_rating",
        Double,
        nullable=False,
        comment="The rating head's prediction, within the rating scale.",
    ),
    Column(
        "predicted_rating_sd",
        Double,
        comment="Standard deviation of the predicted rating; NULL: the solver gives none.",
    ),
    Column(
        "source",
        Text,
        nullable=False,
        comment="model, or popular for a user without a positive rating.",
    ),
    Column("generated_at", _TIME, nullable=False, comment="When the row was computed."),
    postgresql_partition_by="LIST (model_version)",
    comment=(
        "Recommendations of the kept versions, one partition each, with their reserve; "
        "readers use the view."
    ),
)

popular_items = Table(
    "popular_items",
    metadata,
    Column(
        "model_version",
        BigInteger,
        ForeignKey(models.c.model_version),
        primary_key=True,
        autoincrement=False,
        comment="Version.",
    ),
    Column(
        "rank", Integer, primary_key=True, autoincrement=False, comment="Place in the list, from 1."
    ),
    Column("item_id", _ID, nullable=False, comment="Item."),
    Column("score", Double, nullable=False, comment="Number of relevant ratings."),
    Column(
        "predicted_rating",
        Double,
        nullable=False,
        comment="The rating head's prediction for an unknown user.",
    ),
    comment="The list for users that a version does not know.",
)

similar_items = Table(
    "similar_items",
    metadata,
    Column(
        "model_version",
        BigInteger,
        ForeignKey(models.c.model_version),
        primary_key=True,
        autoincrement=False,
        comment="Version.",
    ),
    Column("item_id", _ID, primary_key=True, comment="Item."),
    Column(
        "rank", Integer, primary_key=True, autoincrement=False, comment="Place in the list, from 1."
    ),
    Column("similar_item_id", _ID, nullable=False, comment="Similar item."),
    Column("score", Double, nullable=False, comment="Cosine of the two items' ranking factors."),
    comment="The most similar items of each item.",
)
