"""What people and other systems look up: lists, history, status; and the hidden items."""

import math
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from mf_core.warehouse import runs
from mf_core.warehouse import tables as t
from mf_core.warehouse.schema import sql
from mf_core.warehouse.verdicts import gate_decisions

_SHOWN_OF_LIVE = (
    "went_live",
    "published_at",
    "n_ratings",
    "rmse",
    "ndcg",
    "cutoff",
    "found_settings",
    "found_on",
)

_HISTORY = """
SELECT * FROM {mf}.model_history ORDER BY model_version DESC LIMIT :n OFFSET :offset
"""

_LISTED = """
SELECT r.*, items.title
FROM {mf}.recommendations_for(:user_id, :n) AS r LEFT JOIN {mf}.items USING (item_id)
ORDER BY r.rank
"""

_SIMILAR = """
SELECT s.*, items.title
FROM {mf}.similar(:item_id) AS s LEFT JOIN {mf}.items USING (item_id)
ORDER BY s.rank
"""

_LIVE = """
SELECT model_version, went_live, went_live_at, published_at, n_ratings, rmse, ndcg, cutoff,
    found_settings, found_on,
    extract(epoch FROM now() - published_at)::bigint AS age_seconds
FROM {mf}.model_history WHERE is_live
"""

_LAST_RUN = """
SELECT * FROM {mf}.monitoring_runs WHERE ended_at IS NOT NULL ORDER BY started_at DESC LIMIT 1
"""

_LAST_BATCH = "SELECT * FROM {mf}.monitoring_ingests ORDER BY batch_id DESC LIMIT 1"

_SIZE = """
SELECT count(*) AS ratings,
    count(DISTINCT user_id) AS users,
    count(DISTINCT item_id) AS items
FROM {mf}.ratings
"""


def model_history(connection: Connection, limit: int = 20, offset: int = 0) -> list[dict[str, Any]]:
    """Return the newest versions, from the one number `offset` on, as `mf.model_history` has them.

    A figure that is not a number is None.
    """
    rows = connection.execute(sql(connection, _HISTORY), {"n": limit, "offset": offset})
    return [_finite(row) for row in rows.mappings()]


def count_versions(connection: Connection) -> int:
    """Return how many versions there are."""
    versions = sa.select(sa.func.count(t.models.c.model_version))
    return connection.scalar(versions) or 0


def live(connection: Connection) -> dict[str, Any] | None:
    """Return what is known of the live version; None before the first publication.

    `age_seconds` is the age of its lists: since they first went live. A rollback makes old lists
    live, and they are as old as they are.
    """
    row = connection.execute(sql(connection, _LIVE)).mappings().one_or_none()
    return None if row is None else _finite(row)


def _finite(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row with None for NaN and infinity, which JSON has no word for."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def recommendations_for(
    connection: Connection, user_id: str, n: int | None = None
) -> list[dict[str, Any]]:
    """Return a user's list with titles; who has none gets the popular list without what he rated.

    It is empty before the first publication, and for a user who has rated all that is not hidden.
    """
    rows = connection.execute(sql(connection, _LISTED), {"user_id": user_id, "n": n})
    return [dict(row) for row in rows.mappings()]


def similar(connection: Connection, item_id: str) -> list[dict[str, Any]]:
    """Return the items that are most like one, with titles; none of a hidden or unknown one."""
    rows = connection.execute(sql(connection, _SIMILAR), {"item_id": item_id})
    return [dict(row) for row in rows.mappings()]


def status(connection: Connection) -> dict[str, Any]:
    """Return the live version, the last run, the latest verdict and the size of the warehouse."""
    decisions = gate_decisions(connection, limit=1, stages=("evaluated",))
    latest = decisions[0] if decisions else {}
    shown = live(connection) or {}
    size = connection.execute(sql(connection, _SIZE)).mappings().one()
    n_hidden = sa.select(sa.func.count()).select_from(t.hidden_items)
    return {
        "live_version": shown.get("model_version"),
        "live_since": shown.get("went_live_at"),
        "lists_age_seconds": shown.get("age_seconds"),
        **{name: shown.get(name) for name in _SHOWN_OF_LIVE},
        "last_run": next(iter(runs.latest(connection)), None),
        **size,
        "hidden_items": connection.scalar(n_hidden),
        "latest_verdict": latest.get("verdict"),
        "latest_verdict_version": latest.get("model_version"),
        "latest_verdict_approved": latest.get("approved"),
        "latest_verdict_at": latest.get("decided_at"),
        "latest_reasons": latest.get("reasons", []),
    }


def monitored(connection: Connection) -> dict[str, dict[str, Any]]:
    """Return what the views for monitoring say of the `lists`, the `last_run` and the `last_batch`.

    The last run is the one among those that have ended. What there is none of yet is empty.
    """
    asked = {
        "lists": "SELECT * FROM {mf}.monitoring_lists",
        "last_run": _LAST_RUN,
        "last_batch": _LAST_BATCH,
    }
    found = {}
    for name, query in asked.items():
        row = connection.execute(sql(connection, query)).mappings().one_or_none()
        found[name] = {} if row is None else dict(row)
    return found


def hidden_items(connection: Connection) -> list[str]:
    """Return the ids of the items that readers must not see."""
    return list(connection.scalars(sa.select(t.hidden_items.c.item_id)))


def hide(connection: Connection, item_id: str, *, reason: str, by: str) -> dict[str, Any]:
    """Hide an item from readers at once; repeatable.

    `known` in the answer says whether it has a rating or a title.
    """
    statement = insert(t.hidden_items).values(item_id=item_id, reason=reason, hidden_by=by)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["item_id"], set_={"reason": reason, "hidden_by": by}
        )
    )
    return {"item_id": item_id, "hidden": True, "known": _is_known(connection, item_id)}


def unhide(connection: Connection, item_id: str) -> dict[str, Any]:
    """Let readers see an item again; repeatable. The answer is as that of `hide`."""
    h = t.hidden_items
    connection.execute(sa.delete(h).where(h.c.item_id == item_id))
    return {"item_id": item_id, "hidden": False, "known": _is_known(connection, item_id)}


def _is_known(connection: Connection, item_id: str) -> bool:
    has_title = sa.exists().where(t.items.c.item_id == item_id)
    has_rating = sa.exists().where(t.ratings.c.item_id == item_id)
    return connection.scalar(sa.select(sa.or_(has_title, has_rating))) is True
