"""Backups, monitoring and downgrades of one catalogue leave the other alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from mf_core import backup
from mf_core.catalogue import Catalogue
from mf_core.errors import ConfigError
from mf_core.warehouse import transaction
from mf_core.warehouse.bootstrap import migrate
from mf_core.warehouse.schema import sql

from .test_catalogues import (  # noqa: F401
    CATALOGUES,
    FILMS,
    Shared,
    fingerprint,
    lists,
    shared,
    worlds,
)
from .test_publish import publish_one
from .worlds import World

DEFAULT = CATALOGUES[0]
Worlds = dict[Catalogue, World]


def test_a_catalogue_is_saved_and_restored_by_itself(
    shared: Shared,  # noqa: F811
    worlds: Worlds,  # noqa: F811
    tmp_path: Path,
) -> None:
    for world in worlds.values():
        publish_one(world, "one")
    others = fingerprint(shared, DEFAULT)
    films: World = worlds[FILMS]
    before = lists(films)
    place = films.place
    made = backup.save(place.engine, place.artifact_root, tmp_path / "backup", None, place.log)
    assert made.schema == "mf_films"

    ours = worlds[DEFAULT].place
    with pytest.raises(ConfigError, match="expected mf: restore it as the catalogue"):
        backup.restore(ours.engine, ours.artifact_root, tmp_path / "backup", None, ours.log)

    with shared.admin().begin() as connection:
        connection.execute(sa.text("DROP SCHEMA mf_films, mf_tune_films CASCADE"))
    new_root = (tmp_path / "new").as_uri()
    backup.restore(place.engine, new_root, tmp_path / "backup", None, place.log)
    migrate(place.engine.url.render_as_string(hide_password=False), catalogue=FILMS)
    restored = replace(films, place=replace(place, artifact_root=new_root))
    assert lists(restored).equals(before)
    assert publish_one(restored, "two") == 2
    assert fingerprint(shared, DEFAULT) == others


def test_a_monitoring_system_sees_its_catalogue_only(
    shared: Shared,  # noqa: F811
    worlds: Worlds,  # noqa: F811
) -> None:
    publish_one(worlds[FILMS], "one")
    monitor = shared.engine(FILMS, "monitor")
    with transaction(monitor) as connection:
        query = "SELECT model_version FROM {mf}.monitoring_lists"
        assert connection.scalar(sql(connection, query)) == 1
        sizes = "SELECT sum(estimated_rows) FROM {mf}.monitoring_sizes"
        assert connection.scalar(sql(connection, sizes)) is not None
    for view in ("monitoring_lists", "monitoring_sizes", "ratings"):
        with (
            pytest.raises(ConfigError, match="permission denied for schema mf"),
            transaction(monitor) as connection,
        ):
            connection.execute(sa.text(f"SELECT * FROM mf.{view}"))


def test_one_catalogue_goes_back_a_revision_and_the_other_stays(
    shared: Shared,  # noqa: F811
    worlds: Worlds,  # noqa: F811
) -> None:
    for world in worlds.values():
        publish_one(world, "one")
    others = fingerprint(shared, DEFAULT)
    films: World = worlds[FILMS]
    before = lists(films)
    url = films.place.engine.url.render_as_string(hide_password=False)
    migrate(url, "0006", catalogue=FILMS)
    assert lists(films).equals(before)
    migrate(url, catalogue=FILMS)
    assert lists(films).equals(before)
    assert fingerprint(shared, DEFAULT) == others
