"""Attributes from the warehouse to readers, and standard deviations: on a real Postgres."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.data.artifacts import read_file, read_manifest
from mf_core.data.snapshot import read_snapshot
from mf_core.errors import ArtifactError, VerificationError
from mf_core.models.factors import load_model
from mf_core.models.samples import load_samples
from mf_core.publishing.publish import table_name
from mf_core.records import ModelRef, SplitRef
from mf_core.warehouse import tables, transaction

from .test_publish import rows
from .worlds import N_ITEMS, N_USERS, World, fill_table, fit, load, make_ratings, make_world

ON = {"rating_head__solver": "bayes", "rating_head__bayes__side_information": True}
GROUPS = ("plain", "fancy")


def describe(engine: Engine, users: Mapping[str, object], items: Mapping[str, object]) -> None:
    """Put attributes into the warehouse; what is there already is replaced."""
    with transaction(engine) as connection:
        for table, key, known in (
            (tables.users, "user_id", users),
            (tables.items, "item_id", items),
        ):
            found = [{key: name, "attributes": value} for name, value in known.items()]
            connection.execute(sa.delete(table).where(table.c[key].in_(known)))
            connection.execute(sa.insert(table), found)


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """Ratings in the warehouse, and attributes.

    All who have a rating have some, and so do two users and an item who have none.
    """
    users: dict[str, object] = {"new1": {"group": "plain"}, "new2": {"group": "fancy"}}
    for number in range(N_USERS):
        users[f"u{number:03d}"] = {"group": GROUPS[number % 2], "age": number}

    items: dict[str, object] = {"i900": {"genres": ["plain"]}}

    for number in range(N_ITEMS):
        items[f"i{number:03d}"] = {"genres": [GROUPS[number % 2]], "year": 1950 + number}

    world = make_world(engine, tmp_path, log=[]).with_settings(**ON)
    describe(engine, users, items)

    return world


def prepared(world: World, key: str, n_samples: int = 0) -> tuple[SplitRef, ModelRef]:
    """Bring a run to the point of verification."""
    split = pipeline.split(world.config, world.place, key)
    model = fit(world, split, n_samples=n_samples)
    report = pipeline.evaluate(world.config, world.place, split, model)
    pipeline.gate(world.config, world.place, report)

    refitted = fit(world, split, "refit", n_samples=n_samples)
    fill_table(world, split, model, refitted)

    return split, refitted


def test_without_the_setting_attributes_change_nothing(engine: Engine, tmp_path: Path) -> None:
    plain = make_world(engine, tmp_path, log=[])
    before = pipeline.split(plain.config, plain.place, "one")
    describe(engine, {"u001": {"age": 7}, "new1": {"age": 8}}, {"i900": {"year": 1999}})

    off = plain.with_settings(rating_head__solver="bayes")

    for other in (plain, off):
        split = pipeline.split(other.config, other.place, "one")
        assert split.snapshot_id == before.snapshot_id
        assert split.sha256 == before.sha256

    manifest = read_manifest(before.uri, before.sha256)
    users_file = read_file(before.uri, "users.parquet", manifest)
    users = pd.read_parquet(io.BytesIO(users_file))

    assert list(users.columns) == ["id"]

    snapshot = read_snapshot(before.uri, before.sha256)
    assert snapshot.attributes is None


def test_the_snapshot_carries_attributes_and_those_who_have_nothing_else(
    world: World, engine: Engine
) -> None:
    forget = "INSERT INTO mf.forgotten_users (user_id) VALUES ('new2'), ('u003')"
    with transaction(engine) as connection:
        connection.execute(sa.text(forget))

    describe(engine, {"empty": {}, "list": [1], "u004": {}}, {"i901": {}})
    split = pipeline.split(world.config, world.place, "one")

    assert split.n_users == N_USERS
    assert split.n_items == N_ITEMS
    assert split.unrated_users == 1
    assert split.unrated_items == 1

    snapshot = read_snapshot(split.uri, split.sha256)
    assert snapshot.attributes is not None

    known = dict(zip(snapshot.users.ids, snapshot.attributes.user, strict=True))
    assert set(known) == {*(f"u{number:03d}" for number in range(N_USERS)), "new1"}
    assert json.loads(known["new1"]) == {"group": "plain"}
    assert known["u003"] is None
    assert known["u004"] is None
    assert "i900" in set(snapshot.items.ids)

    rated_users, rated_items = snapshot.rated()
    assert rated_users.sum() == N_USERS
    assert rated_items.sum() == N_ITEMS

    again = pipeline.split(world.config, world.place, "two")
    assert again.sha256 == split.sha256


def test_other_attributes_make_another_snapshot(world: World, engine: Engine) -> None:
    first = pipeline.split(world.config, world.place, "one")
    item = {"i001": {"year": 1951, "genres": ["fancy"]}}
    describe(engine, {"u001": {"group": "neither"}}, item)
    second = pipeline.split(world.config, world.place, "two")

    assert second.snapshot_id != first.snapshot_id

    # As they were, but for the order of the keys.
    describe(engine, {"u001": {"age": 1, "group": "fancy"}}, item)
    third = pipeline.split(world.config, world.place, "three")

    assert third.snapshot_id == first.snapshot_id


def test_a_new_user_gets_the_popular_list_and_a_new_item_is_on_none(
    world: World, engine: Engine
) -> None:
    split, refitted = prepared(world, "one")
    pipeline.verify(world.config, world.place, refitted)

    own_table = table_name(split.model_version)
    query = f"""
        SELECT user_id, source, count(*) AS places
        FROM mf.{own_table}
        GROUP BY 1, 2
        ORDER BY 1, 2
    """
    listed = rows(engine, query)
    of_new = [tuple(row) for row in listed if row.user_id.startswith("new")]

    assert len(listed) == N_USERS + 2
    assert of_new == [("new1", "popular", 10), ("new2", "popular", 10)]

    for table in (own_table, "popular_items", "similar_items"):
        assert rows(engine, f"SELECT 1 FROM mf.{table} WHERE item_id = 'i900'") == []


def test_a_list_ordered_by_predictions_may_hold_a_new_item(world: World, engine: Engine) -> None:
    by_rating = world.with_settings(
        recommend__rank_by="rating",
        recommend__top_n=100,
        gate__require_popularity=False,
    )
    split, refitted = prepared(by_rating, "one")
    pipeline.verify(by_rating.config, by_rating.place, refitted)

    own_table = table_name(split.model_version)
    listed = rows(engine, f"SELECT count(*) FROM mf.{own_table} WHERE item_id = 'i900'")

    assert listed == [(N_USERS + 2,)]


def test_a_tiny_catalogue_is_listed_whole_without_the_new_item(
    world: World, engine: Engine
) -> None:
    everything = world.with_settings(recommend__top_n=100, gate__min_refit_overlap=0)
    split, refitted = prepared(everything, "one")
    pipeline.verify(everything.config, everything.place, refitted)

    own_table = table_name(split.model_version)
    listed = rows(engine, f"SELECT count(*) FROM mf.{own_table} WHERE user_id = 'new1'")

    assert listed == [(N_ITEMS,)]


@pytest.mark.parametrize("spoil", ["user_id = 'new1'", "user_id = 'new1' AND rank > 3"])
def test_a_new_user_without_a_full_list_is_found(world: World, engine: Engine, spoil: str) -> None:
    split, refitted = prepared(world, "one")
    statement = f"DELETE FROM mf.{table_name(split.model_version)} WHERE {spoil}"

    with transaction(engine) as connection:
        connection.execute(sa.text(statement))

    with pytest.raises(VerificationError, match="every_new_user_has_a_full_list"):
        pipeline.verify(world.config, world.place, refitted)


def test_a_user_that_nobody_knows_is_found(world: World, engine: Engine) -> None:
    split, refitted = prepared(world, "one")
    own_table = table_name(split.model_version)
    statement = f"""
        INSERT INTO mf.{own_table}
        SELECT model_version, 'nobody', rank, item_id, score, predicted_rating,
               predicted_rating_sd, source, generated_at
        FROM mf.{own_table}
        WHERE user_id = 'new1'
    """

    with transaction(engine) as connection:
        connection.execute(sa.text(statement))

    with pytest.raises(VerificationError, match="no_unknown_user"):
        pipeline.verify(world.config, world.place, refitted)


def test_a_rating_that_comes_during_the_run_changes_no_verdict(
    world: World, engine: Engine
) -> None:
    _, refitted = prepared(world, "one")
    late = make_ratings().head(1).assign(user_id="new1", item_id="i900")
    load(engine, late)
    pipeline.verify(world.config, world.place, refitted)


def test_deviations_are_written_where_samples_are_kept(world: World, engine: Engine) -> None:
    split, refitted = prepared(world, "with", n_samples=8)
    pipeline.verify(world.config, world.place, refitted)
    samples = load_samples(refitted.heads["rating"].uri, refitted.heads["rating"].sha256)
    snapshot = read_snapshot(split.uri, split.sha256)

    assert samples is not None

    own_table = table_name(split.model_version)
    written = rows(engine, f"SELECT user_id, item_id, predicted_rating_sd FROM mf.{own_table}")
    user = snapshot.users.rows(row.user_id for row in written)
    item = snapshot.items.rows(row.item_id for row in written)
    expected = samples.standard_deviation(user, item)
    np.testing.assert_allclose([row.predicted_rating_sd for row in written], expected)

    query = """
        SELECT metric, value
        FROM mf.evaluations
        WHERE subject = 'candidate' AND slice = 'all'
    """
    figures = {row.metric: row.value for row in rows(engine, query)}

    assert 0.6 < figures["mean_sd"] < 1.0
    assert 0.5 < figures["interval_coverage_90"] <= 1

    without, _ = prepared(world, "without")
    own_table = table_name(without.model_version)
    written = rows(engine, f"SELECT DISTINCT predicted_rating_sd FROM mf.{own_table}")

    assert written == [(None,)]

    query = "SELECT 1 FROM mf.evaluations WHERE metric = 'mean_sd' AND model_version = :v"
    assert rows(engine, query, v=without.model_version) == []


def test_samples_of_another_snapshot_are_refused(world: World, engine: Engine) -> None:
    split = pipeline.split(world.config, world.place, "one")
    model = fit(world, split, n_samples=2)
    describe(engine, {"new3": {"group": "plain"}}, {"i900": {"genres": ["plain"]}})
    other = pipeline.split(world.config, world.place, "two")

    with pytest.raises(ArtifactError, match="belong to another snapshot"):
        pipeline.evaluate(world.config, world.place, other, model)


def grouped_ratings() -> pd.DataFrame:
    """Return ratings where the plain like plain items and the fancy fancy ones."""
    ratings = make_ratings()
    user_digit = ratings["user_id"].str[-1].astype(int)
    item_digit = ratings["item_id"].str[-1].astype(int)
    alike = user_digit % 2 == item_digit % 2
    noise = np.random.default_rng(0).integers(0, 2, len(ratings))

    return ratings.assign(rating=np.where(alike, 4.0, 1.0) + noise)


def grouped_world(
    engine: Engine, root: Path, ratings: pd.DataFrame
) -> tuple[World, dict[str, str]]:
    """Return a world of both groups, newcomers included, and the group of each user and item."""
    names = {*ratings["user_id"], *ratings["item_id"], "new0", "new1", "i900", "i901"}
    group = {name: GROUPS[int(name[-1]) % 2] for name in names}
    users = {name: {"group": of} for name, of in group.items() if not name.startswith("i")}
    items = {name: {"genres": [of]} for name, of in group.items() if name.startswith("i")}

    world = make_world(engine, root, ratings, log=[]).with_settings(
        **ON,
        rating_head__bayes__sweeps=60,
        rating_head__bayes__n_factors=4,
        # With as many features as rows, who rated what explains the groups as well as the
        # attributes do.
        rating_head__bayes__pattern_rank=4,
        gate__require_popularity=False,
        gate__require_better_than_biases=False,
    )
    describe(engine, users, items)

    return world, group


def test_a_new_user_is_predicted_from_attributes_with_a_deviation(
    engine: Engine, tmp_path: Path
) -> None:
    """Every step after the ingest, with the real solver; the newcomers are one of each group."""
    world, group = grouped_world(engine, tmp_path, grouped_ratings())
    config = world.config
    place = world.place
    split = pipeline.split(config, place, "one")
    model = pipeline.train(config, place.artifact_root, split, place.log)
    report = pipeline.evaluate(config, place, split, model)
    pipeline.gate(config, place, report)
    pipeline.run_to_readers(config, place, split, model, report)

    of_new = """
        SELECT item_id, predicted_rating, predicted_rating_sd, source
        FROM mf.recommendations
        WHERE user_id = 'new0'
    """
    listed = rows(engine, of_new)

    assert {row.source for row in listed} == {"popular"}

    for row in listed:
        expected = 4.5 if group[row.item_id] == "plain" else 1.5
        assert row.predicted_rating == pytest.approx(expected, abs=0.8)
        assert 0.3 < row.predicted_rating_sd < 2

    refit = """
        SELECT uri, sha256
        FROM mf.model_artifacts
        WHERE head = 'rating' AND stage = 'refit'
    """
    [(uri, sha256)] = rows(engine, refit)
    fitted = load_model(uri, sha256)
    user = fitted.users.rows(["new0", "new1"])
    item = fitted.items.rows(["i900", "i901"])
    of_own_group = fitted.predict(user, item)
    of_other_group = fitted.predict(user, item[::-1])

    assert (of_own_group > of_other_group + 1.5).all()
