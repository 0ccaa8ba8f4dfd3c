"""A night whose data are those of a snapshot that is on record takes none; any change is seen."""

import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.config import make_config
from mf_core.data import split as splitting
from mf_core.data.content import data_fingerprint
from mf_core.data.snapshot import content_hash, read_snapshot
from mf_core.data.split import take_snapshot
from mf_core.errors import QualityError
from mf_core.warehouse import readers, transaction

from .test_publish import publish_one
from .worlds import World, make_world

CHANGES = {
    "a value": "UPDATE mf.ratings SET rating = 6 - rating WHERE user_id = 'u003' AND rating <> 3",
    "a value by half a millionth": "UPDATE mf.ratings SET rating = rating + 5e-7 "
    "WHERE (user_id, item_id) = (SELECT user_id, item_id FROM mf.ratings LIMIT 1)",
    "a new row": "INSERT INTO mf.ratings VALUES ('n', 'i001', 4, NULL, NULL, 1)",
    "a row less": "DELETE FROM mf.ratings WHERE user_id = 'u004' AND item_id = "
    "(SELECT min(item_id) FROM mf.ratings WHERE user_id = 'u004')",
    "the values of two users swapped": """
        UPDATE mf.ratings SET user_id = CASE user_id WHEN 'u005' THEN 'u006' ELSE 'u005' END
        WHERE user_id IN ('u005', 'u006')
    """,
    "the values of two rows of one user swapped": """
        WITH two AS (
            SELECT user_id, min(item_id) AS low, max(item_id) AS high,
                min(rating) + max(rating) AS s
            FROM (
                SELECT DISTINCT ON (rating) user_id, item_id, rating FROM mf.ratings
                WHERE user_id = 'u007' ORDER BY rating LIMIT 2
            ) AS different GROUP BY user_id
        )
        UPDATE mf.ratings AS r SET rating = s - r.rating
        FROM two WHERE r.user_id = two.user_id AND r.item_id IN (low, high)
    """,
    "a time": "UPDATE mf.ratings SET rated_at = rated_at + interval '1 second' WHERE user_id = 'u1'"
    " OR user_id = 'u001'",
    "times that are unknown": "UPDATE mf.ratings SET rated_at = NULL WHERE user_id = 'u002'",
    "a side": "UPDATE mf.ratings SET side = 'train' WHERE user_id = 'u008'",
    "another id": "UPDATE mf.ratings SET item_id = 'i039 ' WHERE item_id = 'i039'",
}
NO_CHANGES = {
    "rows written anew": "UPDATE mf.ratings SET batch_id = batch_id + 1",
    "a title": "INSERT INTO mf.items (item_id, title) VALUES ('i001', 'A title')",
    "attributes that are not used": "INSERT INTO mf.users VALUES ('u001', '{\"age\": 3}')",
    "a user forgotten who is gone": "INSERT INTO mf.forgotten_users VALUES ('gone')",
}


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """Ratings in the warehouse."""
    return make_world(engine, tmp_path, log=[])


def execute(engine: Engine, statement: str, **values: Any) -> None:
    """Change the warehouse by SQL, as its owner may."""
    with engine.begin() as connection:
        connection.execute(sa.text(statement), values)


def both(engine: Engine, world: World, *, with_attributes: bool = False) -> tuple[str, str]:
    """Return the fingerprint of the data, and the hash of the snapshot that is taken from them."""
    with transaction(engine, isolation_level="REPEATABLE READ") as connection:
        split = world.config.split
        fingerprint = data_fingerprint(connection, split, with_attributes=with_attributes)
        snapshot = take_snapshot(connection, split, with_attributes=with_attributes)
        return fingerprint, content_hash(snapshot)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_by_hand_is_seen(engine: Engine, world: World, change: str) -> None:
    before = both(engine, world)
    if "CASE user_id" in change:
        # The key is looked at row by row.
        execute(engine, "ALTER TABLE mf.ratings DROP CONSTRAINT ratings_pkey")
    execute(engine, change)
    assert both(engine, world)[0] != before[0]


@pytest.mark.parametrize("change", NO_CHANGES.values(), ids=NO_CHANGES)
def test_what_no_snapshot_reads_is_no_change(engine: Engine, world: World, change: str) -> None:
    before = both(engine, world)
    execute(engine, change)
    assert both(engine, world) == before


ATTRIBUTES = {
    "of a user": "INSERT INTO mf.users VALUES ('u001', '{\"age\": 3}')",
    "of an item": "INSERT INTO mf.items (item_id, attributes) VALUES ('new', '{\"kind\": \"a\"}')",
    "of a user who is forgotten": "INSERT INTO mf.forgotten_users VALUES ('known')",
}


@pytest.mark.parametrize("change", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_attributes_that_are_used_are_seen(engine: Engine, world: World, change: str) -> None:
    execute(engine, "INSERT INTO mf.users VALUES ('known', '{\"age\": 30}')")
    before = both(engine, world, with_attributes=True)
    execute(engine, change)
    now = both(engine, world, with_attributes=True)
    assert now[0] != before[0]
    assert now[1] != before[1]


def test_a_time_that_has_come_is_a_change(engine: Engine, world: World) -> None:
    soon = "UPDATE mf.ratings SET rated_at = now() + interval '1.5 seconds' WHERE user_id = 'u001'"
    execute(engine, soon)
    before = both(engine, world)
    time.sleep(2)
    now = both(engine, world)
    assert now[0] != before[0]
    assert now[1] != before[1]


def test_the_way_of_splitting_and_the_code_are_a_part_of_it(
    engine: Engine, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprints = {both(engine, world)[0], both(engine, world, with_attributes=True)[0]}
    other_seed = world.with_settings(split__seed=7)
    fingerprints.add(both(engine, other_seed)[0])
    monkeypatch.setattr("mf_core.data.content.source_hash", lambda: "other code")
    fingerprints.add(both(engine, world)[0])
    assert len(fingerprints) == 4


def no_snapshot_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever copies the ratings fail."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a snapshot is taken")

    monkeypatch.setattr(splitting, "read_columns", refuse)


def test_a_quiet_night_takes_no_snapshot(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = world.with_settings(run__force=False)
    version = publish_one(idle, "one")
    first = pipeline.split(world.config, world.place, "forced")

    no_snapshot_is_taken(monkeypatch)
    quiet = pipeline.split(idle.config, idle.place, "two")
    assert (quiet.news, quiet.model_version) == (False, version)
    assert quiet.snapshot_id == first.snapshot_id

    # Where the settings are news, or the run is forced, the snapshot is still the same.
    others = idle.with_settings(rating_head__als__n_factors=7)
    for name, settings in (("three", others), ("four", world)):
        again = pipeline.split(settings.config, world.place, name)
        assert again.news
        assert (again.uri, again.sha256) == (first.uri, first.sha256)
        read_snapshot(again.uri, again.sha256)


def test_a_change_by_hand_and_one_back_are_both_seen(world: World, engine: Engine) -> None:
    idle = world.with_settings(run__force=False)
    publish_one(idle, "one")
    execute(engine, "UPDATE mf.ratings SET rating = 6 - rating WHERE user_id = 'u003'")
    assert pipeline.split(idle.config, idle.place, "two").news
    execute(engine, "UPDATE mf.ratings SET rating = 6 - rating WHERE user_id = 'u003'")
    assert not pipeline.split(idle.config, idle.place, "three").news


def test_a_snapshot_in_another_store_is_not_taken_over(world: World, tmp_path: Path) -> None:
    first = pipeline.split(world.config, world.place, "one")
    elsewhere = pipeline.Workplace(world.place.engine, (tmp_path / "new").as_uri(), print)
    moved = pipeline.split(world.config, elsewhere, "two")
    assert moved.snapshot_id == first.snapshot_id
    assert moved.uri.startswith((tmp_path / "new").as_uri())
    read_snapshot(moved.uri, moved.sha256)


def test_hidden_items_are_news_when_hidden_and_when_not_any_more(
    world: World, engine: Engine
) -> None:
    """An item that is hidden no longer is in no list until there are new ones."""
    idle = world.with_settings(run__force=False)
    with transaction(engine) as connection:
        readers.hide(connection, "i003", reason="", by="me")
    publish_one(idle, "one")
    assert not pipeline.split(idle.config, idle.place, "two").news
    with transaction(engine) as connection:
        readers.unhide(connection, "i003")
    assert pipeline.split(idle.config, idle.place, "three").news


def test_ratings_that_are_to_fade_need_times_of_a_snapshot_that_was_taken_before_too(
    world: World, engine: Engine
) -> None:
    execute(engine, "UPDATE mf.ratings SET rated_at = NULL")
    pipeline.split(world.config, world.place, "one")
    fading = make_config({"data.half_life_days": 30}, world.config)
    with pytest.raises(QualityError, match="no rating has a time"):
        pipeline.split(fading, world.place, "two")
