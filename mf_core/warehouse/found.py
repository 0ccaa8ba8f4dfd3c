"""Settings that searches found: every statement on `mf.found_settings`."""

from dataclasses import asdict
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from mf_core.records import FoundSettings
from mf_core.warehouse import tables as t
from mf_core.warehouse.history import is_of_run


def save(
    connection: Connection,
    found: FoundSettings,
    *,
    fingerprint: str,
    model_version: int | None = None,
) -> int:
    """Put a find on record and return its number; that of a version's search replaces its last.

    Args:
        connection: a transaction on the warehouse.
        found: what was found.
        fingerprint: of the run's own settings that shape a model.
        model_version: the version whose training searched; None: `mf tune` did.
    """
    values = asdict(found)
    del values["found_id"]
    values["fingerprint"] = fingerprint
    values["model_version"] = model_version
    statement = insert(t.found_settings).values(values)
    saved = statement.on_conflict_do_update(index_elements=["model_version"], set_=values)
    return connection.execute(saved.returning(t.found_settings.c.found_id)).scalar_one()


def by_id(connection: Connection, found_id: int | None) -> FoundSettings | None:
    """Return a find by its number; None for None, or where it is no longer on record."""
    f = t.found_settings
    return _one(connection, sa.select(f).where(f.c.found_id == found_id))


def of_version(connection: Connection, model_version: int) -> FoundSettings | None:
    """Return the find that a version was fitted with; None: those of its run are all it has."""
    f = t.found_settings
    m = t.models
    fitted_with = sa.and_(m.c.found_id == f.c.found_id, m.c.searches.is_(False))
    statement = sa.select(f).join(m, fitted_with).where(m.c.model_version == model_version)
    return _one(connection, statement)


def latest(connection: Connection, fingerprint: str) -> FoundSettings | None:
    """Return the newest find under settings of that fingerprint; None without one."""
    f = t.found_settings
    newest = sa.select(f).where(f.c.fingerprint == fingerprint).order_by(f.c.found_id.desc())
    return _one(connection, newest.limit(1))


def versions_since(connection: Connection, found: FoundSettings, besides: str) -> int:
    """Return how many versions have begun since a find was made.

    Its own is not among them, and none of the run `besides`: that one may be started over.
    """
    m = t.models
    f = t.found_settings
    # What `mf tune` has found is of no version: those count that began after it.
    later = sa.case(
        (f.c.model_version.is_not(None), m.c.model_version > f.c.model_version),
        else_=m.c.created_at > f.c.found_at,
    )
    counted = (
        sa.select(sa.func.count())
        .select_from(m.join(f, later))
        .where(f.c.found_id == found.found_id, ~is_of_run(besides))
    )
    return connection.scalar(counted) or 0


def _one(connection: Connection, statement: sa.Select[Any]) -> FoundSettings | None:
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        return None
    values = {name: row[name] for name in FoundSettings.__dataclass_fields__}
    values["found_at"] = row["found_at"].astimezone(UTC).isoformat(timespec="seconds")
    return FoundSettings(**values)
