"""Where snapshots and models lie: every statement on `mf.snapshots` and `mf.model_artifacts`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from mf_core.errors import ArtifactError, ConfigError
from mf_core.records import HeadRef, ModelRef, SplitRef, StartRef
from mf_core.warehouse import found
from mf_core.warehouse import tables as t
from mf_core.warehouse.retention import LEFTOVER_AFTER
from mf_core.warehouse.schema import catalogue_of

STAGES = ("evaluated", "refit")


@dataclass(frozen=True)
class StoredArtifact:
    """An artifact that a row names, with the sha256 of its manifest."""

    uri: str
    sha256: str


def save_snapshot(connection: Connection, values: dict[str, Any]) -> None:
    """Record a snapshot.

    The same one again changes nothing but its place and its checksum, should those have moved, and
    what it was taken from: other tables may come to the same snapshot.
    """
    statement = insert(t.snapshots).values(values)
    moved = {name: statement.excluded[name] for name in ("uri", "sha256", "data_fingerprint")}
    connection.execute(statement.on_conflict_do_update(index_elements=["snapshot_id"], set_=moved))


def take_snapshot_again(connection: Connection, snapshot_id: str) -> None:
    """Keep the files of a snapshot, should it be on record, from being removed.

    A run does so before it looks at them. Whoever removes them at this moment is waited for.
    """
    s = t.snapshots
    connection.execute(
        sa.update(s).where(s.c.snapshot_id == snapshot_id).values(used_at=sa.func.now())
    )


def find_snapshot(connection: Connection, data_fingerprint: str) -> dict[str, Any] | None:
    """Return the row of the snapshot that was taken from the same data; None: there is none."""
    s = t.snapshots
    same = (
        sa.select(s)
        .where(s.c.data_fingerprint == data_fingerprint)
        .order_by(s.c.used_at.desc())
        .limit(1)
    )
    row = connection.execute(same).mappings().one_or_none()
    if row is None:
        return None
    found = dict(row)
    # What the database gives by itself is no part of what a run stores.
    for name in ("created_at", "used_at"):
        del found[name]
    return found


def lock_snapshot(connection: Connection, snapshot_id: str) -> bool:
    """Let no run take a snapshot again until this transaction ends; False: one is about to."""
    s = t.snapshots
    row = sa.select(s.c.snapshot_id).where(s.c.snapshot_id == snapshot_id)
    locked = row.with_for_update(key_share=True, skip_locked=True)
    return connection.scalar(locked) is not None


def save_artifacts(connection: Connection, model: ModelRef, split_id: str) -> None:
    """Record where the heads of a stage lie."""
    rows = [
        {
            "model_version": model.model_version,
            "head": name,
            "stage": model.stage,
            "uri": head.uri,
            "sha256": head.sha256,
            "iterations": head.iterations,
            "split_id": split_id,
        }
        for name, head in model.heads.items()
    ]
    statement = insert(t.model_artifacts).values(rows)
    replaced = ("uri", "sha256", "iterations", "split_id")
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["model_version", "head", "stage"],
            set_={name: statement.excluded[name] for name in replaced},
        )
    )


def load_model_ref(connection: Connection, model_version: int, stage: str) -> ModelRef:
    """Return where a version's heads lie.

    Raises:
        ArtifactError: that stage of the version was never recorded, or its artifacts were removed.
    """
    a = t.model_artifacts
    m = t.models
    rows = connection.execute(
        sa.select(a, m.c.device, m.c.fit_seconds, m.c.warm_started_from, m.c.found_id)
        .join(m, m.c.model_version == a.c.model_version)
        .where(a.c.model_version == model_version, a.c.stage == stage)
        .order_by(sa.desc(a.c.head))
    ).all()
    if not rows:
        command = catalogue_of(connection).command("train")
        raise ArtifactError(
            f"model version {model_version} has no {stage} artifacts on record; "
            f"train it first (`{command}`)."
        )
    # The heads of a stage are recorded, and forgotten, together.
    model = rows[0]
    return ModelRef(
        model_version=model_version,
        stage=stage,
        heads={row.head: HeadRef(row.uri, row.sha256, row.iterations) for row in rows},
        device=model.device or "",
        fit_seconds=model.fit_seconds or 0.0,
        warm_started_from=model.warm_started_from,
        found=found.by_id(connection, model.found_id),
    )


def load_split_ref(connection: Connection, model_version: int) -> SplitRef:
    """Return the run and snapshot of a version.

    Raises:
        ConfigError: there is no such version.
    """
    s = t.snapshots
    m = t.models
    row = (
        connection.execute(
            sa.select(s, m.c.model_version, m.c.warm_started_from, m.c.found_id, m.c.searches)
            .join(m, m.c.snapshot_id == s.c.snapshot_id)
            .where(m.c.model_version == model_version)
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        command = catalogue_of(connection).command("history")
        raise ConfigError(f"there is no model version {model_version}; `{command}` lists them.")
    stored = {name: row[name] for name in SplitRef.__dataclass_fields__ if name in row}
    return SplitRef(
        **stored,
        news=True,
        start=_start(connection, row["warm_started_from"]),
        found=found.by_id(connection, row["found_id"]),
        search=row["searches"],
    )


def _start(connection: Connection, version: int | None) -> StartRef | None:
    """Return a version as one to start from; None where its artifacts are no longer on record."""
    if version is None:
        return None
    try:
        return load_model_ref(connection, version, "evaluated").as_start()
    except ArtifactError:
        return None


def stored_artifacts(connection: Connection) -> list[StoredArtifact]:
    """Return every artifact that should lie in the store: models, and the snapshots they are of.

    The row of a snapshot outlives its files. Those of one that a run has just taken may be needed,
    though there are no models of it yet.
    """
    m = t.models
    s = t.snapshots
    a = t.model_artifacts
    has_models = sa.exists().where(
        m.c.snapshot_id == s.c.snapshot_id,
        m.c.model_version == a.c.model_version,
    )
    just_taken = s.c.used_at > sa.func.now() - LEFTOVER_AFTER

    snapshots = sa.select(s.c.uri, s.c.sha256).where(sa.or_(has_models, just_taken))
    models = sa.select(a.c.uri, a.c.sha256)
    rows = connection.execute(snapshots.union_all(models))
    return [StoredArtifact(row.uri, row.sha256) for row in rows]


def move_artifacts(connection: Connection, before: str, after: str) -> None:
    """Put on record that all artifacts under the URI `before` lie under `after` now."""
    if before == after:
        return
    for table in (t.snapshots, t.model_artifacts):
        is_below = sa.func.starts_with(table.c.uri, f"{before}/")
        rest = sa.func.substr(table.c.uri, len(before) + 1)
        moved = sa.literal(after) + rest
        connection.execute(sa.update(table).where(is_below).values(uri=moved))


def forget_artifacts(
    connection: Connection, model_version: int, stages: Sequence[str] = STAGES
) -> None:
    """Drop the record of where the heads of a version lie."""
    a = t.model_artifacts
    connection.execute(
        sa.delete(a).where(a.c.model_version == model_version, a.c.stage.in_(stages))
    )
