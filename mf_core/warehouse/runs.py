"""What became of each run, from its first step on: every statement on `mf.runs`.

A run that is killed can't say so: its row goes on saying `running`. That is why everybody who shows
a run also shows since when it runs.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from mf_core.ages import age_in_words
from mf_core.warehouse import history
from mf_core.warehouse import tables as t
from mf_core.warehouse.tables import Outcome
from mf_core.warehouse.text import storable

MAX_MESSAGE = 4000
"""Characters of a message that are kept; an error may quote whole files."""

_NOT_SAID = "the task's log says why"

# The runbook's section on each step; a step that is not here has none of its own.
_SECTIONS = {
    "ingest": "ingest",
    "check": "check",
    "train": "train",
    "refit": "train",
    "evaluate": "artifacts",
    "gate": "gate",
    "prepare": "gate",
    "verify": "verify",
    "publish": "race",
}

_SUMMARIES: Mapping[Outcome, str] = {
    "running": "running",
    "published": "its version went live",
    "nothing_new": "nothing was new, so the lists were left as they were",
    "dry_run": "a dry run: its version would have gone live",
    "refused": "its version was refused",
    "failed": "failed",
}

_TO_DO: Mapping[Outcome, str] = {
    "published": "",
    "nothing_new": (
        "Nothing: ratings, hidden items, settings and code are those that the live version came "
        "from."
    ),
    "dry_run": "Nothing. To let a version go live, start a run without run.dry_run.",
    "refused": (
        "Read the failed rules in its verdict. Readers keep what they had, and the next run is "
        "judged anew. If the data changed for good, a person may let it pass: "
        "`mf override VERSION --reason TEXT` (docs/runbook.md#gate)."
    ),
}


def begin(connection: Connection, run_key: str, *, by: str) -> None:
    """Put on record that a run starts; one that is started over begins again."""
    started = {
        "outcome": "running",
        "step": None,
        "message": None,
        "note": None,
        "model_version": None,
        "started_by": storable(by),
        "started_at": sa.func.now(),
        "ended_at": None,
    }
    statement = insert(t.runs).values(run_key=run_key, **started)
    connection.execute(statement.on_conflict_do_update(index_elements=["run_key"], set_=started))


def fail(
    connection: Connection,
    run_key: str,
    *,
    by: str,
    step: str,
    message: str,
    refused: bool = False,
) -> None:
    """Put on record that a step ended a run; also one whose start could not be put on record.

    Args:
        connection: a transaction on the warehouse.
        run_key: name of the run.
        by: who started it, for a run that is not on record yet.
        step: name of the step.
        message: what it said.
        refused: it ended the run as the gate is meant to.
    """
    failure = {
        "outcome": "refused" if refused else "failed",
        "step": storable(step),
        "message": storable(message[:MAX_MESSAGE]),
        "ended_at": sa.func.now(),
    }
    unknown = {"run_key": run_key, "started_by": storable(by), "started_at": sa.func.now()}
    statement = insert(t.runs).values(**unknown, **failure)
    connection.execute(statement.on_conflict_do_update(index_elements=["run_key"], set_=failure))


def note(connection: Connection, run_key: str, text: str) -> None:
    """Put on record what people should know of a run, however it ends; empty: nothing."""
    r = t.runs
    kept = storable(text[:MAX_MESSAGE]) if text else None
    connection.execute(sa.update(r).where(r.c.run_key == run_key).values(note=kept))


def find_nothing_new(connection: Connection, run_key: str) -> None:
    """Put on record that a run needs no version of its own: nothing is new since the live one."""
    r = t.runs
    connection.execute(
        sa.update(r)
        .where(r.c.run_key == run_key)
        .values(outcome="nothing_new", step=None, message=None)
    )


def end(connection: Connection, run_key: str, failed_steps: Sequence[str] = ()) -> Outcome | None:
    """Put on record how a run ended, by what became of its version; None: it is not on record.

    Args:
        connection: a transaction on the warehouse.
        run_key: name of the run.
        failed_steps: the steps that failed, the first one first. One that told its reason by `fail`
            has it on record already.
    """
    r = t.runs
    found = connection.execute(sa.select(r).where(r.c.run_key == run_key).with_for_update())
    run = found.mappings().one_or_none()
    if run is None:
        return None

    made = history.made_by(connection, run_key, since=run["started_at"])
    # A run without a version has found nothing new, or has not come so far.
    found_nothing = run["outcome"] == "nothing_new" and not failed_steps
    outcome = _outcome(made) if made else "nothing_new" if found_nothing else "failed"
    ended: dict[str, Any] = {
        "outcome": outcome,
        "model_version": made.model_version if made else None,
        "ended_at": sa.func.now(),
    }
    if failed_steps and run["step"] is None:
        ended |= {"step": failed_steps[0], "message": _NOT_SAID}
    # A failed step that was started over and went well has nothing to say any more.
    if not failed_steps and outcome in ("published", "dry_run", "nothing_new"):
        ended |= {"step": None, "message": None}
    connection.execute(sa.update(r).where(r.c.run_key == run_key).values(**ended))
    return outcome


def outcome_of(connection: Connection, run_key: str) -> Outcome | None:
    """Return how a run stands or ended; None: it is not on record."""
    r = t.runs
    found: Outcome | None = connection.scalar(sa.select(r.c.outcome).where(r.c.run_key == run_key))
    return found


def _outcome(made: history.MadeVersion) -> Outcome:
    """Return how a run ended whose newest version is `made`."""
    if made.state in ("published", "retired"):
        return "published"
    if made.state == "refused":
        return "refused"
    if made.state == "dry_run":
        return "dry_run"
    return "failed"


def forget(connection: Connection, older_than: timedelta) -> int:
    """Drop the record of runs that were started longer ago; return how many those are."""
    r = t.runs
    old = r.c.started_at < sa.func.now() - older_than
    return connection.execute(sa.delete(r).where(old)).rowcount


def latest(connection: Connection, limit: int = 1, offset: int = 0) -> list[dict[str, Any]]:
    """Return the runs that were started last, the newest first, with words for people.

    Beside the table's columns there are `seconds` (how long it took, or runs by now), `summary` and
    `what_to_do` (empty: nothing).
    """
    r = t.runs
    until = sa.func.coalesce(r.c.ended_at, sa.func.now())
    took = until - r.c.started_at
    statement = (
        sa.select(r, took.label("took"))
        .order_by(r.c.started_at.desc(), r.c.run_key)
        .limit(limit)
        .offset(offset)
    )
    found = connection.execute(statement)
    return [_told(dict(row)) for row in found.mappings()]


def count(connection: Connection) -> int:
    """Return how many runs are on record."""
    return connection.scalar(sa.select(sa.func.count()).select_from(t.runs)) or 0


def _told(run: dict[str, Any]) -> dict[str, Any]:
    took: timedelta = run.pop("took")
    return {
        **run,
        "seconds": int(took.total_seconds()),
        "summary": _summary(run, took),
        "what_to_do": _what_to_do(run),
    }


def _summary(run: Mapping[str, Any], took: timedelta) -> str:
    """Return in a few words how a run stands or ended."""
    summary = _SUMMARIES[run["outcome"]]
    if run["outcome"] == "running":
        return f"{summary} for {age_in_words(took)}"
    if run["step"] is None:
        return summary
    if run["outcome"] in ("failed", "refused"):
        return f"{summary} in step {run['step']}"
    return f"{summary}; step {run['step']} failed"


def _what_to_do(run: Mapping[str, Any]) -> str:
    """Return what a person should do about a run; empty: nothing."""
    if run["outcome"] == "running":
        return (
            "Nothing while it runs. If its process was killed, start it again: "
            f"`mf run --key {run['run_key']}`, or clear its failed task in Airflow."
        )
    if run["outcome"] == "failed" or (run["outcome"] == "published" and run["step"]):
        section = _SECTIONS.get(run["step"] or "")
        page = f"docs/runbook.md#{section}" if section else "docs/runbook.md"
        return f"Do what the message says, then start the run again. More: {page}."
    return _TO_DO[run["outcome"]]
