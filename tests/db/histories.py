"""Histories of a warehouse by SQL: versions, verdicts, runs. Nothing is trained for them."""

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from mf_core.warehouse import history, versions
from mf_core.warehouse import tables as t
from mf_core.warehouse.versions import Approval

N_TRAIN = 70
N_TEST = 30


def add_version(connection: Connection, run_key: str, *, state: str, **columns: Any) -> int:
    """Insert a version of a run with its figures, and return its number."""
    snapshot = {
        "snapshot_id": "s",
        "split_id": "d",
        "uri": "file:///nowhere",
        "sha256": "",
        "protocol": "hash",
        "n_train": N_TRAIN,
        "n_test": N_TEST,
    }
    connection.execute(insert(t.snapshots).values(**snapshot).on_conflict_do_nothing())
    row = {
        "run_key": run_key,
        "state": state,
        "snapshot_id": "s",
        "split_id": "d",
        "training_fingerprint": "",
        "config": {},
        "code_version": "0",
        "top_n": 10,
        **columns,
    }
    made = sa.insert(t.models).values(**row).returning(t.models.c.model_version)
    version = connection.scalar(made)
    assert version is not None
    for metric, value in (("rmse", 0.9), ("ndcg_at_10", 0.4)):
        figure: dict[str, Any] = {"head": "rating", "subject": "candidate", "slice": "all", "n": 9}
        figure |= {"snapshot_id": "s", "model_version": version, "metric": metric, "value": value}
        connection.execute(sa.insert(t.evaluations).values(**figure))
    return int(version)


def add_decision(
    connection: Connection, version: int, *, approved: bool, text: str = "a rule of the gate"
) -> None:
    """Insert a decision of the gate."""
    rule = {"rule": "max_rmse", "passed": approved, "text": text, "value": 0.9, "limit": 1.0}
    row = {"stage": "evaluated", "approved": approved, "reasons": [rule], "decided_by": "gate"}
    connection.execute(sa.insert(t.gate_decisions).values(model_version=version, **row))


def go_live(connection: Connection, version: int, *, ago: timedelta = timedelta()) -> None:
    """Let readers see an approved version, since `ago`."""
    champion = history.live_version(connection)
    versions.promote(connection, version, champion, by="Ada", approval=Approval())
    m, p = t.models, t.promotions
    then = sa.func.now() - ago
    connection.execute(sa.update(m).where(m.c.model_version == version).values(published_at=then))
    connection.execute(sa.update(p).where(p.c.model_version == version).values(promoted_at=then))


def add_run(
    connection: Connection,
    run_key: str,
    outcome: str,
    *,
    ago: timedelta = timedelta(),
    **columns: Any,
) -> None:
    """Insert a run that was started `ago`."""
    then = sa.func.now() - ago
    row: dict[str, Any] = {"started_by": "Ada", "started_at": then, "ended_at": then, **columns}
    connection.execute(sa.insert(t.runs).values(run_key=run_key, outcome=outcome, **row))


def add_artifact(connection: Connection, version: int, stage: str) -> None:
    """Insert the record of a version's rating model of that stage."""
    row = {"head": "rating", "uri": "file:///nowhere", "sha256": "", "split_id": "d"}
    artifact = {**row, "model_version": version, "stage": stage, "iterations": 1}
    connection.execute(sa.insert(t.model_artifacts).values(**artifact))


def add_lists(connection: Connection, version: int, lists: dict[str, list[str]]) -> None:
    """Insert the lists of a version: the items of each user, and the popular ones under ""."""
    name = f"mf.recommendation_rows_v{version}"
    connection.execute(
        sa.text(
            f"CREATE TABLE {name} PARTITION OF mf.recommendation_rows FOR VALUES IN ({version})"
        )
    )
    for user_id, items in lists.items():
        for rank, item_id in enumerate(items, start=1):
            row = {"model_version": version, "rank": rank, "item_id": item_id, "score": 1 / rank}
            row["predicted_rating"] = 4.0
            if user_id:
                row |= {"user_id": user_id, "source": "model", "generated_at": sa.func.now()}
                connection.execute(sa.insert(t.recommendation_rows).values(**row))
            else:
                connection.execute(sa.insert(t.popular_items).values(**row))


def forget_all(connection: Connection) -> None:
    """Leave an empty warehouse; versions go on being counted."""
    connection.execute(sa.update(t.live).values(model_version=None))
    for table in reversed(t.metadata.sorted_tables):
        if table is not t.live:
            connection.execute(sa.delete(table))
