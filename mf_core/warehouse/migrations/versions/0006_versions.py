"""The life of a version: stopped runs and dry runs, and how a version went live.

Revision ID: 0006
Revises: 0005
"""

from functools import partial

import sqlalchemy as sa
from alembic import op

from mf_core.warehouse.roles import run_named
from mf_core.warehouse.schema import schema_of

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COLUMNS = {
    "models": (("stopped_in", "State that a stopped run had reached; NULL: it goes on."),),
    "promotions": (
        ("how", "By the gate's approval, a person's override of its refusal, or a rollback."),
        ("overridden_by", "Person who overrode the gate's refusal; NULL: nobody."),
        ("reason", "Why the refusal was overridden; NULL: it was not."),
    ),
}

# Until now, an override was told from an approval by the decisions alone.
_HOW_IT_WENT_LIVE = """
UPDATE {mf}.promotions AS p
SET how = CASE
      WHEN p.action = 'rollback' THEN 'rollback'
      WHEN override.decided_by IS NOT NULL THEN 'override'
      ELSE 'gate'
    END,
    overridden_by = CASE WHEN p.action = 'publish' THEN override.decided_by END,
    reason = CASE WHEN p.action = 'publish' THEN override.reason END
FROM {mf}.promotions AS same
LEFT JOIN LATERAL (
  SELECT d.decided_by, d.reasons #>> '{0,text}' AS reason
  FROM {mf}.gate_decisions AS d
  WHERE d.model_version = same.model_version
    AND d.stage = 'override'
    AND d.decided_at <= same.promoted_at
  ORDER BY d.decision_id DESC
  LIMIT 1
) AS override ON true
WHERE same.promotion_id = p.promotion_id
"""

# A dry run used to end as if it were about to go live.
_DRY_RUNS = """
UPDATE {mf}.models SET state = 'dry_run'
WHERE state = 'approved' AND config #>> '{run,dry_run}' = 'true'
"""

# The lists of a run that died were dropped as if the version had been published.
_NEVER_PUBLISHED = """
UPDATE {mf}.models SET state = 'stopped', stopped_in = 'created', retired_at = NULL
WHERE state = 'retired' AND published_at IS NULL
"""

_STATES = (
    "state IN ('created', 'trained', 'evaluated', 'refused', 'approved', 'dry_run', "
    "'published', 'retired', 'stopped')"
)
_HOW = "how IN ('gate', 'override', 'rollback')"
_COMMENTS_BEFORE = {
    ("models", "state"): ("created, trained, evaluated, refused, approved, published or retired."),
    ("promotions", "promoted_by"): "Database user that did it.",
    ("models", "training_fingerprint"): "sha256 of the settings that shape the result.",
}
_COMMENTS = {
    ("models", "state"): (
        "One of the states of docs/architecture.md, such as approved or published."
    ),
    ("promotions", "promoted_by"): "Person or system that did it.",
    ("models", "training_fingerprint"): (
        "sha256 of the settings and the code that shape the result."
    ),
}


def upgrade() -> None:
    """Add the columns, and fill them for what has happened so far."""
    run = partial(run_named, op.get_bind())
    schema = schema_of(op.get_bind())
    for table, columns in _COLUMNS.items():
        for name, comment in columns:
            op.add_column(table, sa.Column(name, sa.Text(), comment=comment), schema=schema)
    for statement in (_HOW_IT_WENT_LIVE, _DRY_RUNS, _NEVER_PUBLISHED):
        run(statement)
    op.alter_column("promotions", "how", nullable=False, schema=schema)
    op.create_check_constraint(op.f("models_state_check"), "models", _STATES, schema=schema)
    op.create_check_constraint(op.f("promotions_how_check"), "promotions", _HOW, schema=schema)
    _comment(_COMMENTS)


def downgrade() -> None:
    """Drop the columns, and bring the readers' view back that does without them."""
    run = partial(run_named, op.get_bind())
    schema = schema_of(op.get_bind())
    run("DROP VIEW {mf}.model_history")
    op.drop_constraint("models_state_check", "models", schema=schema)
    run("UPDATE {mf}.models SET state = 'approved' WHERE state = 'dry_run'")
    run("UPDATE {mf}.models SET state = stopped_in WHERE state = 'stopped'")
    op.drop_constraint("promotions_how_check", "promotions", schema=schema)
    for table, columns in _COLUMNS.items():
        for name, _ in columns:
            op.drop_column(table, name, schema=schema)
    _comment(_COMMENTS_BEFORE)
    _bring_back_the_history_view()


def _bring_back_the_history_view() -> None:
    run = partial(run_named, op.get_bind())
    before = op.get_context().script.get_revision("0002").module
    run(before._MODEL_HISTORY)
    for target, comment in before._COMMENTS.items():
        if "{mf}.model_history" in target:
            text = comment.replace("'", "''")
            run(f"COMMENT ON {target} IS '{text}'")
    run("GRANT SELECT ON {mf}.model_history TO {reader}")


def _comment(comments: dict[tuple[str, str], str]) -> None:
    schema = schema_of(op.get_bind())
    for (table, column), comment in comments.items():
        op.alter_column(table, column, comment=comment, schema=schema)
