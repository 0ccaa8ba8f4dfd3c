"""What became of each run, from its first step on: every statement on `mf.runs`."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from mf_core.warehouse import tables as t
from mf_core.warehouse import versions
from mf_core.warehouse.tables import Outcome

_NOT_SAID = "the task's log says why"


def begin(connection: Connection, run_key: str, *, by: str) -> None:
    """Put on record that a run starts; one that is started over begins again."""
    started = {
        "outcome": "running",
        "step": None,
        "message": None,
        "model_version": None,
        "started_by": by,
        "started_at": sa.func.now(),
        "ended_at": None,
    }
    statement = insert(t.runs).values(run_key=run_key, **started)
    connection.execute(statement.on_conflict_do_update(index_elements=["run_key"], set_=started))


def fail(
    connection: Connection, run_key: str, *, step: str, message: str, refused: bool = False
) -> None:
    """Put on record that a step ended a run; `refused`: as the gate is meant to."""
    connection.execute(
        sa.update(t.runs)
        .where(t.runs.c.run_key == run_key)
        .values(
            outcome="refused" if refused else "failed",
            step=step,
            message=message,
            ended_at=sa.func.now(),
        )
    )


def end(connection: Connection, run_key: str, failed_steps: Sequence[str] = ()) -> Outcome | None:
    """Put on record how a run ended, by what became of its version; None: it is not on record.

    Args:
        connection: a transaction on the warehouse.
        run_key: name of the run.
        failed_steps: the steps that failed, the first one first. One that told its reason by `fail`
            has its reason on record already.
    """
    r = t.runs
    found = connection.execute(sa.select(r).where(r.c.run_key == run_key).with_for_update())
    run = found.mappings().one_or_none()
    if run is None:
        return None

    made = versions.made_by(connection, run_key, since=run["started_at"])
    outcome = _outcome(made, failed=bool(failed_steps) or run["step"] is not None)
    ended: dict[str, Any] = {
        "outcome": outcome,
        "model_version": made.model_version if made else None,
        "ended_at": sa.func.now(),
    }
    if outcome == "failed" and run["step"] is None and failed_steps:
        ended |= {"step": failed_steps[0], "message": _NOT_SAID}
    if outcome in ("published", "dry_run", "nothing_new"):
        ended |= {"step": None, "message": None}
    connection.execute(sa.update(r).where(r.c.run_key == run_key).values(**ended))
    return outcome


def _outcome(made: versions.MadeVersion | None, *, failed: bool) -> Outcome:
    """Return how a run ended whose newest version is `made`."""
    if made is None:
        return "failed" if failed else "nothing_new"
    if made.state in ("published", "retired"):
        return "published"
    if made.state == "refused":
        return "refused"
    if made.state == "dry_run":
        return "dry_run"
    return "failed"


def latest(connection: Connection, limit: int = 1) -> list[dict[str, Any]]:
    """Return the runs that were started last, the newest first."""
    newest_first = sa.select(t.runs).order_by(t.runs.c.started_at.desc()).limit(limit)
    return [dict(row) for row in connection.execute(newest_first).mappings()]
