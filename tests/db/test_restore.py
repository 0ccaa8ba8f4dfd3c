"""Restores that were killed are made again, and take away nothing that came since."""

import signal
from collections.abc import Iterator
from dataclasses import replace
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
    save_from,
    world,
)
from .test_publish import publish_one, rows
from .worlds import World, load, make_ratings

RUNS = "SELECT * FROM dag_run"


@pytest.fixture
def metadata(server: EmbeddedServer) -> Iterator[Engine]:
    """A database that stands for Airflow's: any table will do, as none is looked into."""
    with new_database(server, "airflow") as engine:
        _fill(engine, "of the backup")
        engine.dispose()
        yield engine


@pytest.fixture
def new_metadata(server: EmbeddedServer) -> Iterator[Engine]:
    """The empty database that they go to."""
    with new_database(server, "new airflow'%") as engine:
        engine.dispose()
        yield engine


def _fill(engine: Engine, run: str) -> None:
    """Make a table, as `airflow db migrate` makes many."""
    with transaction(engine) as connection:
        connection.execute(sa.text("CREATE TABLE public.dag_run (run text)"))
        connection.execute(sa.text("INSERT INTO public.dag_run VALUES (:run)"), {"run": run})


def _save(world: World, metadata: Engine, folder: Path) -> None:  # noqa: F811
    place = world.place
    backup.save(place.engine, place.artifact_root, folder, url_of(metadata), place.log)
    for engine in (place.engine, metadata):
        engine.dispose()


def _restore(elsewhere: World, metadata: Engine, folder: Path) -> None:  # noqa: F811
    place = elsewhere.place
    backup.restore(place.engine, place.artifact_root, folder, url_of(metadata), place.log)


def _restore_and_die(
    elsewhere: World,  # noqa: F811
    metadata: Engine,
    folder: Path,
    step: str,
    at: int,
) -> None:
    """Restore in a process that is killed before a step's call of that number."""
    elsewhere.place.engine.dispose()
    metadata.dispose()

    def work() -> None:
        own = replace(elsewhere.place, engine=database_engine(url_of(elsewhere.place.engine)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(restoring, step, kill([0], at, getattr(restoring, step)))
            _restore(replace(elsewhere, place=own), metadata, folder)

    with child(work) as wait:
        assert wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("step", "at"),
    # Within the artifacts, before the warehouse, before the metadata, and before the end.
    [("write", 9), ("_load", 1), ("_load", 2), ("_finish", 1)],
)
def test_a_restore_that_was_killed_can_be_made_again(
    world: World,  # noqa: F811
    elsewhere: World,  # noqa: F811
    metadata: Engine,
    new_metadata: Engine,
    tmp_path: Path,
    step: str,
    at: int,
) -> None:
    folder = tmp_path / "backup"
    _save(world, metadata, folder)
    _restore_and_die(elsewhere, new_metadata, folder, step, at)
    if step == "write":
        # What was only set up since is nothing that could be lost.
        migrate(url_of(elsewhere.place.engine))

    _restore(elsewhere, new_metadata, folder)
    assert md5_of_lists(elsewhere.place.engine) == md5_of_lists(world.place.engine)
    assert rows(new_metadata, RUNS) == [("of the backup",)]
    uris = rows(elsewhere.place.engine, "SELECT uri FROM mf.snapshots")
    assert uris
    assert all(uri.startswith(elsewhere.place.artifact_root) for (uri,) in uris)
    schemas = {name for (name,) in rows(elsewhere.place.engine, "SELECT nspname FROM pg_namespace")}
    assert not [name for name in schemas if "restored" in name]
    with pytest.raises(ConfigError, match="expected an empty warehouse"):
        restore_to(elsewhere, folder)


@pytest.mark.parametrize(
    ("step", "at"),
    # The last one: they have come, and the mark does not say so yet.
    [("write", 9), ("_load", 1), ("_load", 2), ("_note_metadata", 1)],
)
def test_metadata_of_others_never_count_as_those_of_the_backup(
    world: World,  # noqa: F811
    elsewhere: World,  # noqa: F811
    metadata: Engine,
    new_metadata: Engine,
    tmp_path: Path,
    step: str,
    at: int,
) -> None:
    folder = tmp_path / "backup"
    _save(world, metadata, folder)
    _restore_and_die(elsewhere, new_metadata, folder, step, at)
    if step != "_note_metadata":
        _fill(new_metadata, "of others")
    with pytest.raises(ConfigError, match="expected an empty database for Airflow's metadata"):
        _restore(elsewhere, new_metadata, folder)


def test_metadata_that_are_back_are_known_by_their_very_database(
    server: EmbeddedServer,
    world: World,  # noqa: F811
    elsewhere: World,  # noqa: F811
    metadata: Engine,
    new_metadata: Engine,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "backup"
    _save(world, metadata, folder)
    _restore_and_die(elsewhere, new_metadata, folder, "_finish", 1)
    with new_database(server, "live airflow") as live:
        _fill(live, "of others")
        with pytest.raises(ConfigError, match="expected an empty database for Airflow's metadata"):
            _restore(elsewhere, live, folder)
    _restore(elsewhere, new_metadata, folder)


@pytest.mark.parametrize("step", ["write", "_finish"])
def test_what_was_done_since_is_not_taken_away(
    world: World,  # noqa: F811
    elsewhere: World,  # noqa: F811
    metadata: Engine,
    new_metadata: Engine,
    tmp_path: Path,
    step: str,
) -> None:
    """The restore failed, nobody made it again, and nights went on in what was there."""
    folder = tmp_path / "backup"
    _save(world, metadata, folder)
    _restore_and_die(elsewhere, new_metadata, folder, step, 1)
    migrate(url_of(elsewhere.place.engine))
    if step == "write":
        load(elsewhere.place.engine, make_ratings())
    else:
        publish_one(elsewhere, "three")
    before = _content(elsewhere)

    with pytest.raises(ConfigError, match="somebody has worked in it since"):
        _restore(elsewhere, new_metadata, folder)
    assert _content(elsewhere) == before


def _content(world: World) -> list[object]:  # noqa: F811
    queries = (
        "SELECT * FROM mf.ratings ORDER BY user_id, item_id",
        "SELECT * FROM mf.models ORDER BY model_version",
    )
    return [rows(world.place.engine, query) for query in queries]
