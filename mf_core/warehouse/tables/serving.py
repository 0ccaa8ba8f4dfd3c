"""What is judged, goes live and is read: verdicts, promotions and lists."""

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
    func,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB

from mf_core.warehouse.tables.columns import ID, TIME, metadata, version
from mf_core.warehouse.tables.training import models, snapshots

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
        "promoted_at", TIME, nullable=False, server_default=func.clock_timestamp(), comment="When."
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
    version("Candidate of the evaluation."),
    Column(
        "subject",
        Text,
        primary_key=True,
        comment="candidate, champion, recent_best, global_mean, biases, popularity or item_item.",
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
        "decided_at", TIME, nullable=False, server_default=func.clock_timestamp(), comment="When."
    ),
    Index(None, "model_version"),
    comment="The gate's verdicts, rule by rule, and people's overrides.",
)

# A partition for each version: a version goes live, and its rows are dropped later, without a row
# of another version being touched.
recommendation_rows = Table(
    "recommendation_rows",
    metadata,
    version("Version that the row belongs to."),
    Column("user_id", ID, primary_key=True, comment="User."),
    Column(
        "rank",
        Integer,
        primary_key=True,
        autoincrement=False,
        comment="Place in the stored list, from 1; the reserve follows the list.",
    ),
    Column("item_id", ID, nullable=False, comment="Recommended item."),
    Column("score", Double, nullable=False, comment="What the list is ordered by."),
    Column(
        "predicted_rating",
        Double,
        comment="The rating head's prediction, within the rating scale; NULL: the model is of "
        "events and predicts none.",
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
    Column("generated_at", TIME, nullable=False, comment="When the row was computed."),
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
    Column("item_id", ID, nullable=False, comment="Item."),
    Column("score", Double, nullable=False, comment="Number of relevant ratings."),
    Column(
        "predicted_rating",
        Double,
        comment="The rating head's prediction for an unknown user; NULL: the model is of events "
        "and predicts none.",
    ),
    Column(
        "days",
        Integer,
        primary_key=True,
        autoincrement=False,
        server_default="0",
        comment="Ratings of how many days, up to the latest one, are counted; 0: of all time.",
    ),
    comment="The items of a version, those with the most relevant ratings first.",
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
    Column("item_id", ID, primary_key=True, comment="Item."),
    Column(
        "rank", Integer, primary_key=True, autoincrement=False, comment="Place in the list, from 1."
    ),
    Column("similar_item_id", ID, nullable=False, comment="Similar item."),
    Column("score", Double, nullable=False, comment="Cosine of the two items' ranking factors."),
    comment="The most similar items of each item.",
)
