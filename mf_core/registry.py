"""What the warehouse knows of runs, models, figures and verdicts: every statement on those tables stands here.

`mf.live` itself is written by `publish.promote` only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

import mf_core
from mf_core.config import Config
from mf_core.errors import ArtifactError, ConfigError
from mf_core.evaluate import Figure
from mf_core.gate import Rule
from mf_core.records import HEAD_FIELDS, EvalReport, ModelRef, SplitRef
from mf_core.warehouse import tables as t


def live_version(connection: Connection) -> int | None:
    """Return the version that readers see, None before the first publication."""
    return connection.scalar(sa.select(t.live.c.model_version))


def save_snapshot(connection: Connection, values: dict[str, Any]) -> None:
    """Record a snapshot; the same one again changes nothing but its place and checksum, should those have moved."""
    statement = insert(t.snapshots).values(values)
    moved = {"uri": statement.excluded.uri, "sha256": statement.excluded.sha256}
    connection.execute(statement.on_conflict_do_update(index_elements=["snapshot_id"], set_=moved))


def has_news(connection: Connection, config: Config, snapshot_id: str) -> bool:
    """Say whether the data or the settings differ from the live version's."""
    live = connection.execute(
        sa.select(t.models.c.snapshot_id, t.models.c.training_fingerprint).join(
            t.live, t.live.c.model_version == t.models.c.model_version
        )
    ).one_or_none()
    return live is None or tuple(live) != (snapshot_id, config.training_fingerprint())


@dataclass(frozen=True)
class LiveModel:
    """The live version as one to start from.

    `config` are its settings as they were stored, maybe by older code; `lineage_length` counts the versions from its last cold
    start on, itself included.
    """

    model_version: int
    split_id: str
    config: dict[str, Any]
    lineage_length: int


def live_model(connection: Connection) -> LiveModel | None:
    """Return the live version as one to start from, None before the first publication."""
    m = t.models
    is_live = t.live.c.model_version == m.c.model_version
    root = (
        sa.select(m.c.model_version, m.c.warm_started_from)
        .join(t.live, is_live)
        .cte("lineage", recursive=True)
    )
    parents = sa.select(m.c.model_version, m.c.warm_started_from).join(
        root, m.c.model_version == root.c.warm_started_from
    )
    # UNION, not UNION ALL: should the record go round in circles, this ends all the same.
    length = sa.select(sa.func.count()).select_from(root.union(parents)).scalar_subquery()
    statement = sa.select(
        m.c.model_version, m.c.split_id, m.c.config, length.label("lineage_length")
    ).join(t.live, is_live)
    found = connection.execute(statement).mappings().one_or_none()
    return LiveModel(**found) if found else None


def begin_version(
    connection: Connection,
    config: Config,
    run_key: str,
    snapshot_id: str,
    split_id: str,
    taken_at: datetime,
    warm_started_from: int | None = None,
) -> int:
    """Return the model version of a run, made now if the run has none.

    `taken_at` is when the snapshot was taken: the checks of the lists look at the ratings of then. `warm_started_from` is what
    the run means to start from; the training corrects it. A run that is started over before anything went live keeps its
    version; one that was published gets a new one.
    """
    values = {
        "snapshot_id": snapshot_id,
        "split_id": split_id,
        "warm_started_from": warm_started_from,
        "training_fingerprint": config.training_fingerprint(),
        "config": config.model_dump(mode="json"),
        "code_version": mf_core.__version__,
        "top_n": config.recommend.top_n,
        "state": "created",
        "created_at": taken_at,
    }
    attempt = 1
    while True:
        key = run_key if attempt == 1 else f"{run_key}#{attempt}"
        statement = insert(t.models).values(run_key=key, **values)
        statement = statement.on_conflict_do_update(
            index_elements=["run_key"], set_=values, where=t.models.c.published_at.is_(None)
        )
        version = connection.scalar(statement.returning(t.models.c.model_version))
        if version is not None:
            return int(version)
        attempt += 1


def set_state(connection: Connection, model_version: int, state: str, **values: Any) -> None:
    """Set a version's state and other columns of `mf.models`."""
    connection.execute(
        sa.update(t.models)
        .where(t.models.c.model_version == model_version)
        .values(state=state, **values)
    )


def set_trained(connection: Connection, model: ModelRef) -> None:
    """Set a version's state to trained, with what is known of its evaluated fit."""
    known = {
        "device": model.device,
        "fit_seconds": model.fit_seconds,
        "warm_started_from": model.warm_started_from,
    }
    set_state(connection, model.model_version, "trained", **known)


def save_artifacts(connection: Connection, model: ModelRef, split_id: str) -> None:
    """Record where both heads of a stage lie."""
    rows = [
        {
            "model_version": model.model_version,
            "head": head,
            "stage": model.stage,
            "uri": getattr(model, f"{head}_uri"),
            "sha256": getattr(model, f"{head}_sha256"),
            "iterations": getattr(model, f"{head}_iterations"),
            "split_id": split_id,
        }
        for head in ("rating", "ranking")
    ]
    statement = insert(t.model_artifacts).values(rows)
    update = {
        name: statement.excluded[name] for name in ("uri", "sha256", "iterations", "split_id")
    }
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["model_version", "head", "stage"], set_=update
        )
    )


def load_model_ref(connection: Connection, model_version: int, stage: str) -> ModelRef:
    """Return where a version's heads lie.

    Raises:
        ArtifactError: that stage of the version was never recorded.
    """
    a, m = t.model_artifacts, t.models
    found = connection.execute(
        sa.select(a, m.c.device, m.c.fit_seconds, m.c.warm_started_from)
        .join(m, m.c.model_version == a.c.model_version)
        .where(a.c.model_version == model_version, a.c.stage == stage)
    ).mappings()
    heads = {row["head"]: row for row in found}
    if set(heads) != {"rating", "ranking"}:
        raise ArtifactError(
            f"model version {model_version} has no {stage} artifacts on record; train it first (`mf train`)."
        )
    return ModelRef(
        model_version=model_version,
        stage=stage,
        device=heads["rating"]["device"] or "",
        fit_seconds=heads["rating"]["fit_seconds"] or 0.0,
        warm_started_from=heads["rating"]["warm_started_from"],
        **{
            f"{head}_{key}": heads[head][key]
            for head in heads
            for key in ("uri", "sha256", "iterations")
        },
    )


def load_split_ref(connection: Connection, model_version: int) -> SplitRef:
    """Return the run and snapshot of a version.

    Raises:
        ConfigError: there is no such version.
    """
    row = (
        connection.execute(
            sa.select(t.snapshots, t.models.c.model_version, t.models.c.warm_started_from)
            .join(t.models, t.models.c.snapshot_id == t.snapshots.c.snapshot_id)
            .where(t.models.c.model_version == model_version)
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        raise ConfigError(f"there is no model version {model_version}; `mf history` lists them.")
    stored = {name: row[name] for name in SplitRef.__dataclass_fields__ if name in row}
    return SplitRef(**stored, news=True, **_start_fields(connection, row["warm_started_from"]))


def start_fields(start: ModelRef) -> dict[str, Any]:
    """Return the fields of a `SplitRef` that name the model to start from."""
    return {
        "start_version": start.model_version,
        **{f"start_{name}": getattr(start, name) for name in HEAD_FIELDS},
    }


def _start_fields(connection: Connection, version: int | None) -> dict[str, Any]:
    """Return the fields of a version's start; none where its artifacts are no longer on record."""
    if version is None:
        return {}
    try:
        return start_fields(load_model_ref(connection, version, "evaluated"))
    except ArtifactError:
        return {}


def latest_version(connection: Connection, states: Sequence[str]) -> int:
    """Return the newest version that is in one of `states`.

    Raises:
        ConfigError: there is none.
    """
    version = connection.scalar(
        sa.select(sa.func.max(t.models.c.model_version)).where(t.models.c.state.in_(states))
    )
    if version is None:
        raise ConfigError(
            f"no model version is {' or '.join(states)}; run the step before this one first (`mf history`)."
        )
    return int(version)


def recent_versions(connection: Connection, days: int, excluding: int) -> list[int]:
    """Return the versions, newest first, that were published in the last `days` days and whose evaluated artifacts are kept."""
    p, a = t.promotions, t.model_artifacts
    since = sa.func.now() - sa.func.make_interval(0, 0, 0, days)
    kept = sa.exists().where(a.c.model_version == p.c.model_version, a.c.stage == "evaluated")
    statement = sa.select(p.c.model_version).where(
        p.c.promoted_at >= since, p.c.action == "publish", p.c.model_version != excluding, kept
    )
    return sorted(set(connection.scalars(statement)), reverse=True)


def save_figures(
    connection: Connection, snapshot_id: str, model_version: int, figures: Sequence[Figure]
) -> None:
    """Replace a candidate's figures by these; one that is not a number is stored as NaN."""
    e = t.evaluations
    connection.execute(sa.delete(e).where(e.c.model_version == model_version))
    rows = [
        {"snapshot_id": snapshot_id, "model_version": model_version, **vars(f)} for f in figures
    ]
    connection.execute(sa.insert(e), rows)


def load_figures(connection: Connection, model_version: int) -> list[Figure]:
    """Return a candidate's figures."""
    columns = [t.evaluations.c[name] for name in Figure.__dataclass_fields__]
    rows = connection.execute(
        sa.select(*columns).where(t.evaluations.c.model_version == model_version)
    ).mappings()
    return [Figure(**row) for row in rows]


def save_decision(
    connection: Connection,
    model_version: int,
    champion_version: int | None,
    stage: str,
    rules: Sequence[Rule],
    decided_by: str = "gate",
) -> bool:
    """Record a decision with its rules and return whether all of them passed."""
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


def overridden_by(connection: Connection, model_version: int) -> str | None:
    """Return who overruled the gate's refusal of a version, None if nobody did."""
    d = t.gate_decisions
    return connection.scalar(
        sa.select(d.c.decided_by)
        .where(d.c.model_version == model_version, d.c.stage == "override")
        .order_by(d.c.decision_id.desc())
        .limit(1)
    )


def judged_against(connection: Connection, model_version: int) -> int | None:
    """Return the champion that a version was last judged against."""
    return connection.scalar(
        sa.select(t.models.c.champion_version).where(t.models.c.model_version == model_version)
    )


def eval_report(
    model_version: int, champion_version: int | None, figures: Sequence[Figure], cutoff: int
) -> EvalReport:
    """Return the headline figures; NaN where one is missing."""
    value = {(f.subject, f.metric): f.value for f in figures if f.slice == "all"}
    nan = float("nan")
    ndcg = f"ndcg_at_{cutoff}"
    return EvalReport(
        model_version=model_version,
        champion_version=champion_version,
        n_test=next(
            (
                f.n
                for f in figures
                if (f.subject, f.metric, f.slice) == ("candidate", "rmse", "all")
            ),
            0,
        ),
        rmse=value.get(("candidate", "rmse"), nan),
        mae=value.get(("candidate", "mae"), nan),
        average_error=value.get(("candidate", "average_error"), nan),
        baseline_rmse=value.get(("biases", "rmse"), nan),
        ndcg=value.get(("candidate", ndcg), nan),
        popularity_ndcg=value.get(("popularity", ndcg), nan),
        champion_rmse=value.get(("champion", "rmse")),
        champion_ndcg=value.get(("champion", ndcg)),
    )


def model_history(connection: Connection, limit: int = 20) -> list[dict[str, Any]]:
    """Return the newest versions, as `mf.model_history` shows them."""
    rows = connection.execute(
        sa.text("SELECT * FROM mf.model_history ORDER BY model_version DESC LIMIT :n"), {"n": limit}
    )
    return [dict(row) for row in rows.mappings()]


def gate_decisions(
    connection: Connection,
    limit: int = 20,
    stages: Sequence[str] = ("evaluated", "refit", "override"),
) -> list[dict[str, Any]]:
    """Return the newest decisions; `reasons` is the list of rules with rule, passed, text, value and limit."""
    d = t.gate_decisions
    rows = connection.execute(
        sa.select(d).where(d.c.stage.in_(stages)).order_by(d.c.decision_id.desc()).limit(limit)
    )
    return [dict(row) for row in rows.mappings()]


def recommendations_for(
    connection: Connection, user_id: str, n: int | None = None
) -> list[dict[str, Any]]:
    """Return a user's list with titles, or the popular list for an unknown user; empty before the first publication."""
    rows = connection.execute(
        sa.text(
            "SELECT r.*, items.title FROM mf.recommendations_for(:user_id, :n) AS r "
            "LEFT JOIN mf.items USING (item_id) ORDER BY r.rank"
        ),
        {"user_id": user_id, "n": n},
    )
    return [dict(row) for row in rows.mappings()]


def status(connection: Connection) -> dict[str, Any]:
    """Return the live version, the latest verdict and the size of the warehouse."""
    decisions = gate_decisions(connection, 1, stages=("evaluated",))
    latest = (
        decisions[0]
        if decisions
        else {"model_version": None, "approved": None, "decided_at": None, "reasons": []}
    )
    live = live_version(connection)
    figures = connection.execute(
        sa.text("SELECT rmse, ndcg_at_10, published_at FROM mf.model_history WHERE is_live")
    )
    counts = connection.execute(
        sa.text(
            "SELECT count(*) AS ratings, count(DISTINCT user_id) AS users, count(DISTINCT item_id) AS items FROM mf.ratings"
        )
    )
    return {
        "live_version": live,
        **(
            figures.mappings().one_or_none()
            or {"rmse": None, "ndcg_at_10": None, "published_at": None}
        ),
        **counts.mappings().one(),
        "hidden_items": connection.scalar(sa.select(sa.func.count()).select_from(t.hidden_items)),
        "latest_verdict_version": latest["model_version"],
        "latest_verdict_approved": latest["approved"],
        "latest_verdict_at": latest["decided_at"],
        "latest_reasons": latest["reasons"],
    }


def set_hidden(
    connection: Connection, item_id: str, reason: str, *, hidden: bool
) -> dict[str, Any]:
    """Hide an item from readers, or show it again; repeatable. `known` says whether it has a rating or a title."""
    h = t.hidden_items
    if hidden:
        statement = insert(h).values(item_id=item_id, reason=reason)
        connection.execute(
            statement.on_conflict_do_update(index_elements=["item_id"], set_={"reason": reason})
        )
    else:
        connection.execute(sa.delete(h).where(h.c.item_id == item_id))
    known = sa.or_(
        sa.exists().where(t.items.c.item_id == item_id),
        sa.exists().where(t.ratings.c.item_id == item_id),
    )
    return {"item_id": item_id, "hidden": hidden, "known": connection.scalar(sa.select(known))}
