"""What a run makes: snapshots, versions of the model, found settings, the runs themselves."""

from typing import Literal, get_args

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    false,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

from mf_core.warehouse.tables.columns import ID, TIME, counter, metadata

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
    counter("n_train", "Ratings on the training side."),
    counter("n_test", "Ratings on the test side."),
    counter("n_users", "Users on either side."),
    counter("n_items", "Items on either side."),
    counter("cold_users", "Users on the test side only."),
    counter("cold_items", "Items on the test side only."),
    counter("cold_test_ratings", "Test ratings of a cold user or item."),
    Column(
        "created_at",
        TIME,
        nullable=False,
        server_default=func.now(),
        comment="When it was first written.",
    ),
    counter("unrated_users", "Further users, with attributes and no rating."),
    counter("unrated_items", "Further items, with attributes and no rating."),
    Column(
        "used_at",
        TIME,
        nullable=False,
        server_default=func.now(),
        comment="When a run last took it.",
    ),
    Column(
        "data_fingerprint",
        Text,
        comment="Hash of all that it was taken from, made by Postgres: equal means the same "
        "snapshot; NULL: not known.",
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
        TIME,
        nullable=False,
        server_default=func.now(),
        comment="When the run took its snapshot.",
    ),
    Column("published_at", TIME, comment="When it first went live."),
    Column("retired_at", TIME, comment="When its rows were dropped."),
    Column(
        "hidden_fingerprint",
        Text,
        comment="sha256 of the items that were hidden when the run took its snapshot; NULL: not "
        "known.",
    ),
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
    Column("found_at", TIME, nullable=False, comment="When the search ended."),
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
    Column("run_key", ID, primary_key=True, comment="Name of the run."),
    Column(
        "outcome",
        Text,
        CheckConstraint(f"outcome IN {OUTCOMES}", name="outcome"),
        nullable=False,
        comment="running, or how it ended.",
    ),
    Column("step", Text, comment="Step that ended it; NULL: it did not end early."),
    Column("message", Text, comment="What that step said; NULL: nothing."),
    Column("note", Text, comment="What to know of its data; NULL: nothing."),
    Column(
        "model_version",
        BigInteger,
        ForeignKey(models.c.model_version),
        comment="Version that it made; NULL: none.",
    ),
    Column("started_by", Text, nullable=False, comment="Person or system that started it."),
    Column("started_at", TIME, nullable=False, comment="When it was last started."),
    Column("ended_at", TIME, comment="When it ended; NULL: it runs, or was killed."),
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
