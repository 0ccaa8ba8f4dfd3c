"""The warehouse's tables (Postgres schema `mf`), as SQLAlchemy Core.

The views and the function for readers, with their comments and grants, stand in `readers.sql`. Ids
are text in collation C, so that Postgres sorts them as Python does.
"""

from mf_core.warehouse.tables.columns import SCHEMA, metadata
from mf_core.warehouse.tables.data import (
    event_sources,
    events,
    forgotten_users,
    hidden_items,
    ingest_batches,
    items,
    ratings,
    rejected_ratings,
    source_parts,
    users,
)
from mf_core.warehouse.tables.serving import (
    evaluations,
    gate_decisions,
    live,
    popular_items,
    promotions,
    recommendation_rows,
    similar_items,
)
from mf_core.warehouse.tables.training import (
    OUTCOMES,
    STATES,
    Outcome,
    State,
    found_settings,
    model_artifacts,
    models,
    runs,
    snapshots,
)

__all__ = [
    "OUTCOMES",
    "SCHEMA",
    "STATES",
    "Outcome",
    "State",
    "evaluations",
    "event_sources",
    "events",
    "forgotten_users",
    "found_settings",
    "gate_decisions",
    "hidden_items",
    "ingest_batches",
    "items",
    "live",
    "metadata",
    "model_artifacts",
    "models",
    "popular_items",
    "promotions",
    "ratings",
    "recommendation_rows",
    "rejected_ratings",
    "runs",
    "similar_items",
    "snapshots",
    "source_parts",
    "users",
]
