"""What was measured and decided: every statement on `mf.evaluations` and `mf.gate_decisions`."""

from collections.abc import Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mf_core.figures import Figure, Rule
from mf_core.warehouse import tables as t
from mf_core.warehouse.versions import Approval

Stage = Literal["evaluated", "refit", "override"]
STAGES: tuple[Stage, ...] = ("evaluated", "refit", "override")


def save_figures(
    connection: Connection, snapshot_id: str, model_version: int, figures: Sequence[Figure]
) -> None:
    """Replace a candidate's figures by these; one that is not a number is stored as NaN."""
    e = t.evaluations
    connection.execute(sa.delete(e).where(e.c.model_version == model_version))
    candidate = {"snapshot_id": snapshot_id, "model_version": model_version}
    connection.execute(sa.insert(e), [{**candidate, **vars(figure)} for figure in figures])


def load_figures(connection: Connection, model_version: int) -> list[Figure]:
    """Return a candidate's figures."""
    e = t.evaluations
    columns = [e.c[name] for name in Figure.__dataclass_fields__]
    rows = connection.execute(sa.select(*columns).where(e.c.model_version == model_version))
    return [Figure(**row) for row in rows.mappings()]


def save_decision(
    connection: Connection,
    model_version: int,
    champion_version: int | None,
    stage: Stage,
    rules: Sequence[Rule],
    *,
    decided_by: str = "gate",
) -> bool:
    """Record a decision with its rules, and return whether all of them passed."""
    approved = all(rule.passed for rule in rules)
    connection.execute(
        sa.insert(t.gate_decisions).values(
            model_version=model_version,
            champion_version=champion_version,
            stage=stage,
            approved=approved,
            reasons=[rule.as_dict() for rule in rules],
            decided_by=decided_by,
        )
    )
    return approved


def approval_of(connection: Connection, model_version: int) -> Approval:
    """Return who let an approved version pass: the person who overrode a refusal, or the gate.

    An override counts as long as no later decision on the same thing has passed by itself.
    """
    d = t.gate_decisions
    decisions = connection.execute(
        sa.select(d.c.stage, d.c.approved, d.c.decided_by, d.c.reasons)
        .where(d.c.model_version == model_version)
        .order_by(d.c.decision_id)
    )
    refused: set[str] = set()
    override: Approval | None = None
    for stage, approved, decided_by, reasons in decisions:
        if stage == "override":
            override = Approval(decided_by, reasons[0]["text"])
        elif approved:
            refused.discard(stage)
        else:
            refused.add(stage)
    return override if override and refused else Approval()


def override_of(
    connection: Connection, model_version: int, stage: Literal["evaluated", "refit"]
) -> Approval | None:
    """Return the override of the newest refusal of that stage; None if it stands, or there is none.

    It holds for whatever the same rules say later: a person has taken the responsibility.
    """
    d = t.gate_decisions
    of_version = d.c.model_version == model_version
    refusal = sa.select(sa.func.max(d.c.decision_id)).where(
        of_version, d.c.stage == stage, d.c.approved.is_(False)
    )
    later = d.c.decision_id > refusal.scalar_subquery()
    found = connection.execute(
        sa.select(d.c.decided_by, d.c.reasons)
        .where(of_version, d.c.stage == "override", later)
        .order_by(d.c.decision_id.desc())
        .limit(1)
    ).one_or_none()
    return Approval(found.decided_by, found.reasons[0]["text"]) if found else None


def gate_decisions(
    connection: Connection,
    limit: int = 20,
    offset: int = 0,
    stages: Sequence[Stage] = STAGES,
) -> list[dict[str, Any]]:
    """Return the newest decisions, from the one number `offset` on.

    `reasons` is the list of rules, each with rule, passed, text, value and limit. `verdict` is the
    decision in words: a dry run's approval is none.
    """
    d = t.gate_decisions
    m = t.models
    verdict = sa.case(
        (d.c.approved.is_(False), "refused"),
        (m.c.state == "dry_run", "dry run: would be approved"),
        else_="approved",
    )
    statement = (
        sa.select(d, verdict.label("verdict"))
        .join(m, m.c.model_version == d.c.model_version)
        .where(d.c.stage.in_(stages))
        .order_by(d.c.decision_id.desc())
    )
    found = connection.execute(statement.limit(limit).offset(offset))
    return [dict(row) for row in found.mappings()]


def count_decisions(connection: Connection) -> int:
    """Return how many decisions are on record."""
    return connection.scalar(sa.select(sa.func.count()).select_from(t.gate_decisions)) or 0
