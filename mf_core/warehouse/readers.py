"""What people and other systems look up: lists, history, status; and the hidden items."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from mf_core.warehouse import tables as t
from mf_core.warehouse.verdicts import gate_decisions
from mf_core.warehouse.versions import live_version

_HISTORY = "SELECT * FROM mf.model_history ORDER BY model_version DESC LIMIT :n"

_LISTED = """
SELECT r.*, items.title
FROM mf.recommendations_for(:user_id, :n) AS r LEFT JOIN mf.items USING (item_id)
ORDER BY r.rank
"""

_LIVE_FIGURES = """
SELECT rmse, ndcg, cutoff, published_at, went_live FROM mf.model_history WHERE is_live
"""

_SIZE = """
SELECT count(*) AS ratings,
    count(DISTINCT user_id) AS users,
    count(DISTINCT item_id) AS items
FROM mf.ratings
"""

_NOTHING_LIVE = {
    "rmse": None,
    "ndcg": None,
    "cutoff": None,
    "published_at": None,
    "went_live": None,
}


def model_history(connection: Connection, limit: int = 20) -> list[dict[str, Any]]:
    """Return the newest versions, as `mf.model_history` shows them."""
    rows = connection.execute(sa.text(_HISTORY), {"n": limit})
    return [dict(row) for row in rows.mappings()]


def recommendations_for(
    connection: Connection, user_id: str, n: int | None = None
) -> list[dict[str, Any]]:
    """Return a user's list with titles, or the popular list for an unknown user.

    It is empty before the first publication.
    """
    rows = connection.execute(sa.text(_LISTED), {"user_id": user_id, "n": n})
    return [dict(row) for row in rows.mappings()]


def status(connection: Connection) -> dict[str, Any]:
    """Return the live version, the latest verdict and the size of the warehouse."""
    decisions = gate_decisions(connection, limit=1, stages=("evaluated",))
    latest = decisions[0] if decisions else {}
    figures = connection.execute(sa.text(_LIVE_FIGURES)).mappings().one_or_none()
    size = connection.execute(sa.text(_SIZE)).mappings().one()
    n_hidden = sa.select(sa.func.count()).select_from(t.hidden_items)
    return {
        "live_version": live_version(connection),
        **(figures or _NOTHING_LIVE),
        **size,
        "hidden_items": connection.scalar(n_hidden),
        "latest_verdict_version": latest.get("model_version"),
        "latest_verdict_approved": latest.get("approved"),
        "latest_verdict_at": latest.get("decided_at"),
        "latest_reasons": latest.get("reasons", []),
    }


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
