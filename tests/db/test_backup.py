"""Backups of the warehouse and the artifacts: they fit each other, and come back elsewhere."""

import hashlib
import json
import os
import shutil
import signal
import stat
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import backup, pipeline
from mf_core.backup import manifest as parts
from mf_core.backup import saving
from mf_core.config import make_config
from mf_core.data.store import write
from mf_core.errors import ArtifactError, ConfigError
from mf_core.pipeline import Workplace
from mf_core.warehouse import database_engine, lineage, transaction
from mf_core.warehouse.bootstrap import migrate
from mf_core.warehouse.embedded import EmbeddedServer
from tests.s3 import BUCKET, Door

from .databases import new_database, url_of
from .nights import child
from .test_cli import Mf
from .test_publish import as_reader, publish_one, rows
from .worlds import SETTINGS, World, artifact_folder, make_world

LISTS = "SELECT * FROM mf.recommendations ORDER BY user_id, rank"


def md5_of_lists(engine: Engine) -> str:
    """Return the md5 of what readers see, every row and column of it."""
    reader = as_reader(url_of(engine))
    try:
        return hashlib.md5(repr(rows(reader, LISTS)).encode()).hexdigest()
    finally:
        reader.dispose()


@pytest.fixture(scope="module")
def published(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A warehouse in which a second version is live, and the first one is kept; to be copied."""
    with new_database(server, "published", "template_warehouse") as engine:
        world = make_world(engine, tmp_path_factory.mktemp("artifacts"))
        publish_one(world, "one")
        publish_one(world, "two")
        engine.dispose()
        yield world


@pytest.fixture
def world(server: EmbeddedServer, published: World, tmp_path: Path) -> Iterator[World]:
    """A copy of it, with artifacts of its own."""
    root = tmp_path / "artifacts"
    shutil.copytree(artifact_folder(published), root)
    template = str(published.place.engine.url.database)
    with new_database(server, "warehouse", template) as engine:
        place = replace(published.place, engine=engine, artifact_root=f"file://{root}")
        with transaction(engine) as connection:
            before = published.place.artifact_root
            lineage.move_artifacts(connection, before, place.artifact_root)
        yield World(place, published.config)


@pytest.fixture
def elsewhere(server: EmbeddedServer, tmp_path: Path) -> Iterator[World]:
    """An empty database and an empty artifact store."""
    with new_database(server, "else where'%") as engine:
        root = tmp_path / "another store"
        place = Workplace(engine, f"file://{root}", log=lambda _line: None)
        yield World(place, make_config(SETTINGS))


def save_from(world: World, folder: Path) -> parts.Manifest:
    place = world.place
    return backup.save(place.engine, place.artifact_root, folder, None, place.log)


def restore_to(world: World, folder: Path) -> parts.Manifest:
    place = world.place
    return backup.restore(place.engine, place.artifact_root, folder, None, place.log)


def test_the_lists_come_back_and_the_next_night_goes_on(
    world: World, elsewhere: World, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    made = save_from(world, folder)
    assert made.lost == ()
    before = md5_of_lists(world.place.engine)
    shutil.rmtree(artifact_folder(world))

    assert restore_to(elsewhere, folder) == made
    assert md5_of_lists(elsewhere.place.engine) == before
    migrate(url_of(elsewhere.place.engine))

    # The champion is found where it lies now, and compared with.
    publish_one(elsewhere, "three")
    [(rmse,)] = rows(
        elsewhere.place.engine,
        "SELECT value FROM mf.evaluations WHERE model_version = 3 "
        "AND subject = 'champion' AND metric = 'rmse' AND slice = 'all'",
    )
    assert 0 < rmse < 3
    assert pipeline.rollback(elsewhere.place).model_version == 2
    assert md5_of_lists(elsewhere.place.engine) == before


def test_a_backup_is_for_its_owner_only(world: World, tmp_path: Path) -> None:
    save_from(world, tmp_path / "backup")
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o700


def test_a_night_that_ends_meanwhile_is_in_it_with_its_artifacts(
    world: World, elsewhere: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It publishes, and retires the first version, between the artifacts and the warehouse."""
    copy_all = saving._copy_all

    def copy_and_publish(*arguments: Any) -> int:
        n_files = copy_all(*arguments)
        publish_one(world.with_settings(publish__keep_versions=1), "three")
        return n_files

    monkeypatch.setattr(saving, "_copy_all", copy_and_publish)
    made = save_from(world, tmp_path / "backup")
    assert made.lost == ()
    restore_to(elsewhere, tmp_path / "backup")
    assert rows(elsewhere.place.engine, "SELECT model_version FROM mf.live") == [(3,)]
    assert md5_of_lists(elsewhere.place.engine) == md5_of_lists(world.place.engine)
    for artifact in _named(elsewhere):
        assert (artifact / "manifest.json").exists()


def _named(world: World) -> list[Path]:
    found = rows(
        world.place.engine,
        "SELECT uri FROM mf.snapshots UNION ALL SELECT uri FROM mf.model_artifacts",
    )
    assert found
    return [Path(uri.removeprefix("file://")) for (uri,) in found]


def test_what_is_lost_in_the_store_is_named_and_the_rest_is_saved(
    world: World, elsewhere: World, tmp_path: Path
) -> None:
    lost = artifact_folder(world) / "models" / "1" / "evaluated" / "rating"
    shutil.rmtree(lost)
    made = save_from(world, tmp_path / "backup")
    assert made.lost == (f"file://{lost}",)
    restore_to(elsewhere, tmp_path / "backup")
    assert md5_of_lists(elsewhere.place.engine) == md5_of_lists(world.place.engine)


def kill(count: list[int], at: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, which kills this process when it and its like are called `at` times."""

    def counting(*arguments: Any, **named: Any) -> Any:
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)

    return counting


def _save_and_die(world: World, folder: Path, at: int) -> None:
    """Take a backup in a process that is killed before its n-th copy, dump or last step."""
    own = replace(world.place, engine=database_engine(url_of(world.place.engine)))
    count = [0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "write", kill(count, at, write))
        patch.setattr(saving, "_dump", kill(count, at, saving._dump))
        patch.setattr(saving, "_finish", kill(count, at, saving._finish))
        save_from(replace(world, place=own), folder)


def test_a_backup_that_was_killed_anywhere_is_none(
    world: World, elsewhere: World, tmp_path: Path
) -> None:
    world.place.engine.dispose()
    survived = 0
    for at in range(1, 100):
        folder = tmp_path / f"backup {at}"
        with child(partial(_save_and_die, world, folder, at)) as work:
            code = work()
        if code == 0:
            break
        assert code == -signal.SIGKILL
        survived += 1
        with pytest.raises(ConfigError, match=r"was never finished: it has no backup\.json"):
            restore_to(elsewhere, folder)
        if any(folder.iterdir()):
            with pytest.raises(ConfigError, match="holds something"):
                save_from(world, folder)
    # Two snapshots' files, those of eight models, the dump and the manifest.
    assert survived > 20
    restore_to(elsewhere, folder)
    assert md5_of_lists(elsewhere.place.engine) == md5_of_lists(world.place.engine)


@pytest.mark.parametrize("damage", ["changed", "removed", "added"])
def test_a_damaged_backup_changes_nothing(
    world: World, elsewhere: World, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "backup"
    save_from(world, folder)
    file = next((folder / "artifacts").rglob("*.npy"))
    if damage == "changed":
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    elif damage == "removed":
        file.unlink()
    else:
        file.with_name("strange.npy").write_bytes(b"")
    with pytest.raises(ArtifactError, match="1 of its files are missing, changed or strange"):
        restore_to(elsewhere, folder)
    assert not artifact_folder(elsewhere).exists()


def test_nothing_is_overwritten(world: World, elsewhere: World, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    save_from(world, folder)
    before = md5_of_lists(world.place.engine)
    with pytest.raises(ConfigError, match="expected an empty warehouse"):
        restore_to(world, folder)
    assert md5_of_lists(world.place.engine) == before

    # A warehouse that was only set up is empty enough.
    migrate(url_of(elsewhere.place.engine))
    strange = artifact_folder(elsewhere) / "models" / "1" / "published"
    strange.parent.mkdir(parents=True)
    strange.write_bytes(b"of another warehouse")
    with pytest.raises(ConfigError, match="expected an empty store"):
        restore_to(elsewhere, folder)
    strange.unlink()
    restore_to(elsewhere, folder)
    assert md5_of_lists(elsewhere.place.engine) == before


def test_tables_that_are_not_ours_keep_the_schema(
    elsewhere: World, world: World, tmp_path: Path
) -> None:
    save_from(world, tmp_path / "backup")
    with transaction(elsewhere.place.engine) as connection:
        connection.execute(sa.text("CREATE SCHEMA mf; CREATE TABLE mf.mine AS SELECT 1"))
    with pytest.raises(ConfigError, match=r"mf\.mine has rows"):
        restore_to(elsewhere, tmp_path / "backup")
    assert rows(elsewhere.place.engine, "SELECT * FROM mf.mine") == [(1,)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "Restore it with the release that has made it"),
        ({"revision": "9999"}, "this code is older"),
        ({"schema": "mf_films"}, "expected mf"),
    ],
)
def test_a_backup_that_does_not_fit_is_refused_by_name(
    world: World, elsewhere: World, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    folder = tmp_path / "backup"
    save_from(world, folder)
    file = folder / parts.NAME
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ConfigError, match=said):
        restore_to(elsewhere, folder)


def _mf(world: World) -> Mf:
    place = world.place
    return Mf(MF_DATABASE_URL=url_of(place.engine), MF_ARTIFACT_ROOT=place.artifact_root)


def test_the_command_saves_and_restores(world: World, elsewhere: World, tmp_path: Path) -> None:
    folder = tmp_path / "back up 100%#1 'é'"
    here = _mf(world)
    assert "without Airflow's metadata" in here("backup", str(folder))
    there = _mf(elsewhere)
    assert "now run `mf db migrate`" in there("restore", str(folder))
    there("db", "migrate")
    assert there.json("status")["live_version"] == 2
    there("restore", str(folder), code=2)
    assert "expected an empty warehouse" in there.errors
    here("backup", str(folder), code=2)


def test_artifacts_come_from_an_object_store_and_go_back_to_one(
    engine: Engine, elsewhere: World, tmp_path: Path, s3: Door
) -> None:
    roots = [f"s3://{BUCKET}/{uuid.uuid4().hex}/a b%20+#ü" for _ in range(2)]
    made = make_world(engine, tmp_path)
    here = replace(made, place=replace(made.place, artifact_root=roots[0]))
    there = replace(elsewhere, place=replace(elsewhere.place, artifact_root=roots[1]))
    publish_one(here, "one")
    assert save_from(here, tmp_path / "backup").lost == ()
    restore_to(there, tmp_path / "backup")
    assert md5_of_lists(there.place.engine) == md5_of_lists(engine)
    assert publish_one(there, "two") == 2
