"""Which version is live, which were, and what tonight's is compared with: questions, no changes."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mf_core.config import Config
from mf_core.provenance import result_fingerprint
from mf_core.warehouse import tables as t
from mf_core.warehouse.tables import State


def live_version(connection: Connection) -> int | None:
    """Return the version that readers see, None before the first publication."""
    return connection.scalar(sa.select(t.live.c.model_version))


def by_last_promotion(connection: Connection) -> list[int]:
    """Return all versions that were ever live, the one that went live last first."""
    p = t.promotions
    last = sa.func.max(p.c.promotion_id)
    statement = sa.select(p.c.model_version).group_by(p.c.model_version).order_by(last.desc())
    return list(connection.scalars(statement))


def was_promoted(connection: Connection, model_version: int) -> bool:
    """Say whether a version has been live; a publish that was killed late runs again."""
    p = t.promotions
    found = sa.exists().where(p.c.model_version == model_version)
    return connection.scalar(sa.select(found)) is True


def replaced_by(connection: Connection, model_version: int) -> int | None:
    """Return the version that was live before `model_version` last went live; None: none was."""
    p = t.promotions
    return connection.scalar(
        sa.select(p.c.previous_version)
        .where(p.c.model_version == model_version)
        .order_by(p.c.promotion_id.desc())
        .limit(1)
    )


def recent_versions(connection: Connection, days: int, excluding: int) -> list[int]:
    """Return the versions, newest first, that were published in the last `days` days.

    Only those whose evaluated artifacts are kept, and without the version `excluding`.
    """
    p = t.promotions
    a = t.model_artifacts
    since = sa.func.now() - timedelta(days=days)
    kept = sa.exists().where(a.c.model_version == p.c.model_version, a.c.stage == "evaluated")
    statement = sa.select(p.c.model_version).where(
        p.c.promoted_at >= since,
        p.c.action == "publish",
        p.c.model_version != excluding,
        kept,
    )
    return sorted(set(connection.scalars(statement)), reverse=True)


def judged_against(connection: Connection, model_version: int) -> int | None:
    """Return the champion that a version was last judged against."""
    m = t.models
    statement = sa.select(m.c.champion_version).where(m.c.model_version == model_version)
    return connection.scalar(statement)


def has_news(connection: Connection, config: Config, snapshot_id: str) -> bool:
    """Say whether the data, or the settings or the code that shape the result, have changed.

    That is, since the live version was made. The hidden items are data too: what is hidden no
    longer is in no list until there is a new one.
    """
    m = t.models
    live = connection.execute(
        sa.select(m.c.snapshot_id, m.c.training_fingerprint, m.c.hidden_fingerprint).join(
            t.live, t.live.c.model_version == m.c.model_version
        )
    ).one_or_none()
    now = (snapshot_id, result_fingerprint(config), hidden_fingerprint(connection))
    return live is None or tuple(live) != now


def hidden_fingerprint(connection: Connection) -> str:
    """Return the sha256 (hex) over the ids of the items that are hidden at this moment."""
    item_id = t.hidden_items.c.item_id
    hidden = connection.scalars(sa.select(item_id).order_by(item_id)).all()
    return hashlib.sha256(json.dumps(hidden).encode()).hexdigest()


@dataclass(frozen=True)
class LiveModel:
    """The live version as one to start from.

    `config` are its settings as they were stored, maybe by older code; `lineage_length` counts the
    versions from its last cold start on, itself included.
    """

    model_version: int
    split_id: str
    config: dict[str, Any]
    lineage_length: int


def live_model(connection: Connection) -> LiveModel | None:
    """Return the live version as one to start from, None before the first publication."""
    m = t.models
    is_live = t.live.c.model_version == m.c.model_version
    parent = sa.select(m.c.model_version, m.c.warm_started_from)
    lineage = parent.join(t.live, is_live).cte("lineage", recursive=True)
    parents = parent.join(lineage, m.c.model_version == lineage.c.warm_started_from)

    # UNION, not UNION ALL: should the record go round in circles, this ends all the same.
    length = sa.select(sa.func.count()).select_from(lineage.union(parents)).scalar_subquery()
    statement = sa.select(
        m.c.model_version, m.c.split_id, m.c.config, length.label("lineage_length")
    ).join(t.live, is_live)
    found = connection.execute(statement).mappings().one_or_none()
    return LiveModel(**found) if found else None


def is_of_run(run_key: str) -> sa.ColumnElement[bool]:
    """Return the condition that a version was made by the run `run_key`."""
    # A run that was started over after its publication has a key with a number behind.
    key = t.models.c.run_key
    return sa.or_(key == run_key, key.startswith(f"{run_key}#", autoescape=True))


@dataclass(frozen=True)
class MadeVersion:
    """A version that a run made, and the state that it is in."""

    model_version: int
    state: State


def made_by(connection: Connection, run_key: str, since: datetime) -> MadeVersion | None:
    """Return the newest version of a run, None if the run has made none since it was started."""
    m = t.models
    worked_on = sa.or_(m.c.created_at >= since, m.c.published_at >= since)
    statement = (
        sa.select(m.c.model_version, m.c.state)
        .where(is_of_run(run_key), worked_on)
        .order_by(m.c.model_version.desc())
        .limit(1)
    )
    found = connection.execute(statement).one_or_none()
    return MadeVersion(found.model_version, found.state) if found else None
