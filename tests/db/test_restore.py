"""Restores that were killed are made again, and take away nothing that came since."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import backup
from mf_core.backup import restoring
from mf_core.errors import ConfigError
from mf_core.warehouse import database_engine, transaction
from mf_core.warehouse.bootstrap import migrate
from mf_core.warehouse.embedded import EmbeddedServer

from .databases import new_database, url_of
from .nights import child
from .test_backup import (  # noqa: F401
    elsewhere,
    kill,
    md5_of_lists,
    published,
    restore_to,
    world,
)
from .test_publish import publish_one, rows
from .worlds import World, load, make_ratings


@dataclass(frozen=True)
class Places:
    """A backup, and where it goes.

    Attributes:
        saved: the warehouse that it was taken of.
        folder: the backup.
        warehouse: an empty warehouse and an empty artifact store.
        metadata: an empty database for Airflow's metadata.
    """

    saved: World
    folder: Path
    warehouse: World
    metadata: Engine


@pytest.fixture
def places(
    server: EmbeddedServer,
    world: World,  # noqa: F811
    elsewhere: World,  # noqa: F811
    tmp_path: Path,
) -> Iterator[Places]:
    """A backup with metadata, and empty places for it."""
    folder = tmp_path / "backup"
    place = world.place
    with new_database(server, "airflow") as metadata:
        _fill(metadata, "of the backup")
        backup.save(place.engine, place.artifact_root, folder, url_of(metadata), place.log)
    with new_database(server, "new airflow'%") as metadata:
        yield Places(world, folder, elsewhere, metadata)


def _fill(engine: Engine, run: str) -> None:
    """Make a table in a database of metadata, as Airflow makes many: none is looked into."""
    with transaction(engine) as connection:
        connection.execute(sa.text("CREATE TABLE public.dag_run (run text)"))
        connection.execute(sa.text("INSERT INTO public.dag_run VALUES (:run)"), {"run": run})


def _restore(places: Places, metadata: Engine | None = None) -> None:
    place = places.warehouse.place
    url = url_of(metadata or places.metadata)
    backup.restore(place.engine, place.artifact_root, places.folder, url, place.log)


def _restore_and_die(places: Places, step: str, at: int) -> None:
    """Restore in a process that is killed before a step's call of that number."""
    for engine in (places.saved.place.engine, places.warehouse.place.engine, places.metadata):
        engine.dispose()

    def work() -> None:
        place = places.warehouse.place
        own = replace(place, engine=database_engine(url_of(place.engine)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(restoring, step, kill([0], at, getattr(restoring, step)))
            _restore(replace(places, warehouse=World(own, places.warehouse.config)))

    with child(work) as wait:
        assert wait() == -signal.SIGKILL


# Within the artifacts, before the warehouse, and before the metadata.
BEFORE_METADATA = [("write", 9), ("_load", 1), ("_load", 2)]


@pytest.mark.parametrize(("step", "at"), [*BEFORE_METADATA, ("_finish", 1)])
def test_a_restore_that_was_killed_can_be_made_again(places: Places, step: str, at: int) -> None:
    _restore_and_die(places, step, at)
    engine = places.warehouse.place.engine
    if step == "write":
        # What was only set up since is nothing that could be lost.
        migrate(url_of(engine))

    _restore(places)
    assert md5_of_lists(engine) == md5_of_lists(places.saved.place.engine)
    assert rows(places.metadata, "SELECT * FROM dag_run") == [("of the backup",)]
    uris = rows(engine, "SELECT uri FROM mf.snapshots UNION ALL SELECT uri FROM mf.model_artifacts")
    assert len(uris) > 5
    assert all(uri.startswith(places.warehouse.place.artifact_root) for (uri,) in uris)
    schemas = {name for (name,) in rows(engine, "SELECT nspname FROM pg_namespace")}
    assert not [name for name in schemas if "restored" in name]
    with pytest.raises(ConfigError, match="expected an empty warehouse"):
        restore_to(places.warehouse, places.folder)


@pytest.mark.parametrize(("step", "at"), BEFORE_METADATA)
def test_metadata_of_others_never_count_as_those_of_the_backup(
    places: Places, step: str, at: int
) -> None:
    _restore_and_die(places, step, at)
    _fill(places.metadata, "of others")
    with pytest.raises(ConfigError, match="expected an empty database for Airflow's metadata"):
        _restore(places)


def test_metadata_that_nobody_has_noted_yet_are_not_taken_for_granted(
    server: EmbeddedServer, places: Places
) -> None:
    _restore_and_die(places, "_note_metadata", 1)
    with pytest.raises(ConfigError, match=r"expected an empty .* Make a new one"):
        _restore(places)
    with new_database(server, "another") as another:
        _restore(places, another)


def test_metadata_that_are_back_are_known_by_their_very_database(
    server: EmbeddedServer, places: Places
) -> None:
    _restore_and_die(places, "_finish", 1)
    with new_database(server, "live airflow") as live:
        _fill(live, "of others")
        with pytest.raises(ConfigError, match="expected an empty database for Airflow's metadata"):
            _restore(places, live)
    _restore(places)


@pytest.mark.parametrize("step", ["write", "_finish"])
def test_what_was_done_since_is_not_taken_away(places: Places, step: str) -> None:
    """The restore failed, nobody made it again, and nights went on in what was there."""
    _restore_and_die(places, step, 1)
    engine = places.warehouse.place.engine
    migrate(url_of(engine))
    if step == "write":
        load(engine, make_ratings())
    else:
        publish_one(places.warehouse, "three")
    before = _content(engine)

    with pytest.raises(ConfigError, match="somebody has worked in it since"):
        _restore(places)
    assert _content(engine) == before


def _content(engine: Engine) -> list[object]:
    queries = (
        "SELECT * FROM mf.ratings ORDER BY user_id, item_id",
        "SELECT * FROM mf.models ORDER BY model_version",
    )
    return [rows(engine, query) for query in queries]
