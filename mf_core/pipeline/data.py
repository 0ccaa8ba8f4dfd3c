"""The steps up to the snapshot: settings, ratings, checks, split."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mf_core.config import Config, with_found
from mf_core.data.artifacts import sweep
from mf_core.data.content import data_fingerprint
from mf_core.data.fading import require_times
from mf_core.data.snapshot import Snapshot, content_hash, read_snapshot, write_snapshot
from mf_core.data.split import knows_sides, split_id, take_snapshot
from mf_core.data.store import store_path, try_store
from mf_core.errors import ArtifactError, ConfigError
from mf_core.intake import ingest as intake
from mf_core.intake import quality
from mf_core.pipeline.capacity import require_capacity
from mf_core.pipeline.place import Workplace
from mf_core.publishing import publish as publishing
from mf_core.records import (
    IngestReport,
    QualityReport,
    SplitRef,
)
from mf_core.sources.kinds import require_kind_fits
from mf_core.training.found import find_found
from mf_core.training.warm_start import find_start
from mf_core.warehouse import (
    history,
    lineage,
    runs,
    transaction,
    versions,
)


def check_settings(config: Config, place: Workplace) -> None:
    """Refuse what a run can't work with here; `Config` refuses what is wrong anywhere.

    That is settings that are wrong for this warehouse, and an artifact store that can't be written
    to and read. A run does so before any work.

    Raises:
        ConfigError: the message names the settings.
        ArtifactStoreError: the message says what the store does not do, and why.
    """
    require_kind_fits(config)
    _check_sides(config, place)
    try_store(store_path(f"{place.artifact_root}/snapshots"))


def _check_sides(config: Config, place: Workplace) -> None:
    source = config.source
    if source.side_column and source.test_uri:
        raise ConfigError(
            "source.side_column and source.test_uri both say which ratings are test. "
            "Empty one of them."
        )
    if config.split.protocol != "given" or source.side_column or source.test_uri:
        return
    # Ratings that were loaded with their sides, by an earlier run, will do.
    with transaction(place.engine) as connection:
        if not knows_sides(connection):
            raise ConfigError(
                "split.protocol is given, but nothing says which ratings are test: "
                "source.side_column and source.test_uri are empty, and no rating in the warehouse "
                "has a side. Set one of the two, or another split.protocol."
            )


def ingest(config: Config, place: Workplace, run_key: str | None = None) -> IngestReport:
    """Load the source into `mf.ratings`; what people should know of it goes on the run's record.

    Raises ConfigError, InputError or DatabaseError.
    """
    now = datetime.now(UTC)
    report = intake.ingest(place.engine, config, now, place.log, reach=place.reach)
    if run_key is not None:
        with transaction(place.engine) as connection:
            runs.note(connection, run_key, report.notes)
    return report


def check(config: Config, place: Workplace) -> QualityReport:
    """Refuse ratings that are not fit to train on, and a run that would not fit on this machine.

    Raises QualityError or CapacityError.
    """
    report = quality.check_ratings(place.engine, config)
    place.log(report.sentence())
    require_capacity(config, place, report)
    return report


def split(config: Config, place: Workplace, run_key: str) -> SplitRef:
    """Freeze `mf.ratings` as a train/test snapshot and open the run's model version.

    If nothing that it would be taken from has changed, the snapshot that is there is read instead.

    Raises:
        QualityError: one side is empty, or ratings are to fade and none has a time.
        ArtifactStoreError: the snapshot can't be written.
    """
    data = _read_data(config, place)
    snapshot = data.snapshot
    require_times(config, snapshot.train)
    stored = data.taken or _store(place, config, snapshot, data.fingerprint)
    sweep(place.artifact_root)
    _describe(place, config, snapshot, stored)

    found, search = find_found(config, place.engine, run_key, _shape(snapshot), place.log)
    in_force = with_found(config, found.settings) if found else config
    with transaction(place.engine) as connection:
        lineage.save_snapshot(connection, stored)
        live = history.live_version(connection)
        has_news = history.has_news(connection, in_force, stored["snapshot_id"])
        nothing_new = live is not None and not has_news and not config.run.force
        if nothing_new:
            runs.find_nothing_new(connection, run_key)
    not_sent = ("protocol", "data_fingerprint")
    split_ref = {name: value for name, value in stored.items() if name not in not_sent}
    if live is not None and nothing_new:
        unchanged = SplitRef(model_version=live, news=False, **split_ref)
        place.log(unchanged.sentence())
        return unchanged

    start = find_start(in_force, place.engine, stored["split_id"], place.log, search=search)
    with transaction(place.engine) as connection:
        version = versions.begin(
            connection,
            in_force,
            run_key=run_key,
            snapshot_id=stored["snapshot_id"],
            split_id=stored["split_id"],
            taken_at=data.read_at,
            begins=versions.Beginning(
                started_from=start.model_version if start else None,
                found_id=found.found_id if found else None,
                searches=search,
            ),
            attached=publishing.attached_versions(connection),
        )
    begun = SplitRef(
        model_version=version, news=True, **split_ref, start=start, found=found, search=search
    )
    place.log(begun.sentence())
    return begun


def _shape(snapshot: Snapshot) -> dict[str, int]:
    """Return how many ratings there are to train on, and users and items that have one."""
    warm_users, warm_items = snapshot.warm()
    return {
        "n_ratings": len(snapshot.train),
        "n_users": int(warm_users.sum()),
        "n_items": int(warm_items.sum()),
    }


@dataclass(frozen=True)
class _Data:
    """What `mf.ratings` holds.

    Attributes:
        snapshot: of it.
        taken: the row of `mf.snapshots`, if the snapshot was taken before, of the same data.
        fingerprint: `data_fingerprint`.
        read_at: the time of the transaction that read it.
    """

    snapshot: Snapshot
    taken: dict[str, Any] | None
    fingerprint: str
    read_at: datetime


def _read_data(config: Config, place: Workplace, *, look_for_taken: bool = True) -> _Data:
    """Return what is to be split; a snapshot that was taken of the same is read instead."""
    with_attributes = config.rating_head.uses_attributes()
    with transaction(place.engine, isolation_level="REPEATABLE READ") as connection:
        read_at = connection.execute(sa.select(sa.func.now())).scalar_one()
        fingerprint = data_fingerprint(connection, config.split, with_attributes=with_attributes)
        taken = _find_taken(connection, place, fingerprint) if look_for_taken else None
        if taken is None:
            snapshot = take_snapshot(connection, config.split, with_attributes=with_attributes)
            return _Data(snapshot, None, fingerprint, read_at)

    # After the transaction: a pool before the server may lend one connection at a time.
    found = _read_taken(place, taken)
    if found is None:
        return _read_data(config, place, look_for_taken=False)
    return _Data(found, taken, fingerprint, read_at)


def _find_taken(
    connection: Connection, place: Workplace, fingerprint: str
) -> dict[str, Any] | None:
    """Return the row of a snapshot of the same data; None: there is none in this store."""
    taken = lineage.find_snapshot(connection, fingerprint)
    if taken is None or taken["uri"] != _snapshot_uri(place, taken["snapshot_id"]):
        return None
    return taken


def _read_taken(place: Workplace, stored: dict[str, Any]) -> Snapshot | None:
    """Return a snapshot that is on record; None: it is damaged."""
    with transaction(place.engine) as connection:
        lineage.take_snapshot_again(connection, stored["snapshot_id"])
    try:
        snapshot = read_snapshot(stored["uri"], stored["sha256"])
    except ArtifactError as error:
        place.log(f"the snapshot is taken again: {error}")
        return None
    place.log(f"snapshot {stored['snapshot_id']} was taken from the same data, and is taken over")
    return snapshot


def _snapshot_uri(place: Workplace, snapshot_id: str) -> str:
    return f"{place.artifact_root}/snapshots/{snapshot_id}"


def _store(
    place: Workplace, config: Config, snapshot: Snapshot, fingerprint: str
) -> dict[str, Any]:
    """Write the snapshot and return its row of `mf.snapshots`.

    `fingerprint` is that of the data it was taken from.
    """
    split = split_id(config.split)
    snapshot_id = f"{split}-{content_hash(snapshot)[:16]}"
    uri = _snapshot_uri(place, snapshot_id)
    with transaction(place.engine) as connection:
        lineage.take_snapshot_again(connection, snapshot_id)
    metadata = {
        "snapshot_id": snapshot_id,
        "split_id": split,
        "split": config.split.model_dump(mode="json"),
    }
    warm_users, warm_items = snapshot.warm()
    rated_users, rated_items = snapshot.rated()
    cold_user, cold_item = snapshot.cold_test()
    return {
        "snapshot_id": snapshot_id,
        "split_id": split,
        "uri": uri,
        "sha256": write_snapshot(snapshot, uri, metadata),
        "protocol": config.split.protocol,
        "n_train": len(snapshot.train),
        "n_test": len(snapshot.test),
        "n_users": int(rated_users.sum()),
        "n_items": int(rated_items.sum()),
        "cold_users": int((rated_users & ~warm_users).sum()),
        "cold_items": int((rated_items & ~warm_items).sum()),
        "unrated_users": int((~rated_users).sum()),
        "unrated_items": int((~rated_items).sum()),
        "cold_test_ratings": int((cold_user | cold_item).sum()),
        "data_fingerprint": fingerprint,
    }


def _describe(place: Workplace, config: Config, snapshot: Snapshot, stored: dict[str, Any]) -> None:
    place.log(
        f"snapshot: {len(snapshot.train):,} training and {len(snapshot.test):,} test ratings "
        f"({config.split.protocol})"
    )
    if snapshot.attributes:
        known_users = sum(text is not None for text in snapshot.attributes.user)
        known_items = sum(text is not None for text in snapshot.attributes.item)
        place.log(
            f"attributes of {known_users:,} users and {known_items:,} items, "
            f"{stored['unrated_users']:,} and {stored['unrated_items']:,} of them without a rating"
        )
