"""Nights of a catalogue of events: lists without ratings, and what came before them."""

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from sqlalchemy.engine import Engine

from mf_core import pipeline, tune
from mf_core.cli.tune import tune as tune_command
from mf_core.errors import ConfigError, GateError, QualityError, VerificationError
from mf_core.records import PublishReport
from mf_core.tune.fit import fit_and_judge
from mf_core.warehouse import readers, transaction

from .test_publish import publish_one, rows
from .worlds import World, fill_table, fit, load, make_ratings, make_world

_WEIGHTS = {1: -2, 2: 0, 3: 1, 4: 4, 5: 9}
_EVENTS = {
    "data__kind": "events",
    "gate__max_rmse_loss": None,
    "gate__max_ndcg_loss": 1,
    "gate__require_popularity": False,
    "gate__min_refit_overlap": 0,
}


def make_events(seed: int = 0) -> pd.DataFrame:
    """Return planted pairs with the weight of their events; low ratings become dislikes."""
    ratings = make_ratings(seed)
    return ratings.assign(rating=ratings["rating"].map(_WEIGHTS).astype(float))


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training lock of this test alone."""
    monkeypatch.setenv("MF_GPU_LOCK", str(tmp_path / "lock"))


@pytest.fixture
def lines() -> list[str]:
    """What the steps log."""
    return []


@pytest.fixture
def world(engine: Engine, tmp_path: Path, lines: list[str]) -> World:
    """Events in the warehouse."""
    world = make_world(engine, tmp_path, make_events(), lines)
    return world.with_settings(**_EVENTS)


def test_a_night_of_events_publishes_lists_without_ratings(
    world: World, engine: Engine, lines: list[str]
) -> None:
    assert pipeline.check(world.config, world.place).kind == "events"
    publish_one(world, "one")

    for table in ("recommendation_rows", "popular_items", "recommendations"):
        [(n, n_rated)] = rows(engine, f"SELECT count(*), count(predicted_rating) FROM mf.{table}")
        assert n > 0 == n_rated
    asked = "SELECT predicted_rating, source FROM mf.recommendations_for(:user)"
    assert {tuple(row) for row in rows(engine, asked, user="u001")} == {(None, "model")}
    assert {tuple(row) for row in rows(engine, asked, user="nobody")} == {(None, "popular")}

    heads = rows(engine, "SELECT DISTINCT head, stage FROM mf.model_artifacts")
    assert {tuple(row) for row in heads} == {("ranking", "evaluated"), ("ranking", "refit")}
    assert rows(engine, "SELECT DISTINCT head FROM mf.evaluations") == [("ranking",)]
    with transaction(engine) as connection:
        [version] = readers.model_history(connection, 1)
        status = readers.status(connection)
    assert version["rmse"] is status["rmse"] is None
    assert version["ndcg"] > 0
    said = "\n".join(lines)
    assert "only lists are judged" in said
    assert "no ratings to predict" in said
    assert "RMSE" not in said


def test_what_is_not_wanted_is_neither_listed_nor_popular(world: World, engine: Engine) -> None:
    """A user's dislikes are known to the user, and count for nothing in the popular list."""
    publish_one(world, "one")
    listed = """
        SELECT count(*) FROM mf.recommendations AS l
        JOIN mf.ratings AS r USING (user_id, item_id)
    """
    assert rows(engine, listed) == [(0,)]
    scores = rows(engine, "SELECT item_id, score FROM mf.popular_items WHERE days = 0")
    wanted = "SELECT item_id, count(*) FILTER (WHERE rating > 0) FROM mf.ratings GROUP BY item_id"
    assert {item: int(score) for item, score in scores} == dict(rows(engine, wanted))


def test_verify_refuses_ratings_in_lists_of_events_and_none_in_those_of_ratings(
    world: World, engine: Engine, tmp_path: Path
) -> None:
    for kind, made in (("events", "1"), ("ratings", "NULL")):
        other = world.with_settings(
            data__kind=kind, data__scale_low=-9, data__scale_high=9, gate__max_rmse=99
        )
        split = pipeline.split(other.config, world.place, kind)
        model = fit(other, split)
        report = pipeline.evaluate(other.config, world.place, split, model)
        pipeline.gate(other.config, world.place, report)
        fill_table(other, split, model, model)
        with transaction(engine) as connection:
            connection.exec_driver_sql(
                f"UPDATE mf.recommendation_rows_v{split.model_version} "
                f"SET predicted_rating = {made} WHERE user_id = 'u001' AND rank = 2"
            )
        with pytest.raises(VerificationError, match=r"ratings_for_all_or_none: .*'u001'"):
            pipeline.verify(other.config, world.place, model)


def test_after_ratings_events_are_judged_by_their_lists_and_the_way_back_is_told(
    world: World, engine: Engine, lines: list[str]
) -> None:
    rated = world.with_settings(
        data__kind="ratings",
        data__scale_low=-9,
        data__scale_high=9,
        gate__max_rmse=99,
        gate__max_rmse_loss=99,
        gate__require_better_than_biases=False,
    )
    first = publish_one(rated, "ratings")
    warm = world.with_settings(train__warm_start=True, data__scale_low=-9, data__scale_high=9)
    second = publish_one(warm, "events")
    started = "SELECT warm_started_from FROM mf.models WHERE model_version = :v"
    assert rows(engine, started, v=second) == [(None,)]
    assert any("data.kind is events, but was ratings" in line for line in lines)
    losses = "SELECT DISTINCT metric FROM mf.evaluations WHERE subject = 'champion' AND metric ~ :m"
    of_second = f"{losses} AND model_version = {second}"
    assert rows(engine, of_second, m="loss") == [("ndcg_at_5_loss",)]

    # Ratings again: nobody knows whether they are predicted worse than before, so a person decides.
    split = pipeline.split(rated.config, world.place, "ratings again")
    model = fit(rated, split)
    report = pipeline.evaluate(rated.config, world.place, split, model)
    with pytest.raises(GateError, match="is unknown: it predicts no ratings, artifacts are"):
        pipeline.gate(rated.config, world.place, report)

    pipeline.rollback(world.place)
    ratings = rows(engine, "SELECT count(predicted_rating) > 0 FROM mf.recommendations")
    assert ratings == [(True,)]
    with transaction(engine) as connection:
        assert readers.status(connection)["live_version"] == first


def test_events_of_which_none_is_positive_do_not_pass_the_check(
    engine: Engine, tmp_path: Path
) -> None:
    events = make_events()
    world = make_world(engine, tmp_path, events.assign(rating=-events["rating"].abs()))
    disliked = world.with_settings(**_EVENTS)
    with pytest.raises(QualityError, match=r"no pair of user and item has a positive weight"):
        pipeline.check(disliked.config, disliked.place)


def test_the_ranking_head_is_what_there_is_to_tune(world: World) -> None:
    small = world.with_settings(ranking_head__n_factors=4, train__device="cpu")
    rows = tune.read_warehouse(small.config, world.place.engine)
    task = tune.make_task(small.config, "ranking", rows)
    figure, _ = fit_and_judge(task, {}, lambda iteration, value: None)
    assert 0 < figure <= 1

    asked = CliRunner().invoke(tune_command, ["--head", "rating", "--set", "data.kind=events"])
    assert isinstance(asked.exception, ConfigError)
    assert "there is no rating head where data.kind is events" in str(asked.exception)


def whole_night(world: World, key: str) -> PublishReport:
    """Run one night with real training."""
    split = pipeline.split(world.config, world.place, key)
    model = pipeline.train(world.config, world.place.artifact_root, split, world.place.log)
    report = pipeline.evaluate(world.config, world.place, split, model)
    pipeline.gate(world.config, world.place, report)
    return pipeline.run_to_readers(world.config, world.place, split, model, report)


@pytest.mark.slow
def test_two_whole_nights_of_events_the_second_one_warm(
    world: World, engine: Engine, lines: list[str]
) -> None:
    """No rating head is fitted, searched for or started from."""
    small = {
        "ranking_head__n_factors": 4,
        "ranking_head__iterations": 4,
        "train__device": "cpu",
        "gate__max_ndcg_loss": 1,
    }
    whole_night(world.with_settings(**small), "one")
    searched = "\n".join(lines)
    assert "search:" in searched
    assert not any(line.startswith("rating:") for line in lines)

    load(engine, make_events(1).assign(item_id=lambda events: events["item_id"] + "x"))
    warm = world.with_settings(**small, train__warm_start=True, train__settings="fixed")
    whole_night(warm, "two")
    lines.clear()
    published = whole_night(warm, "three")
    assert any(line.startswith("a warm start from the evaluated model") for line in lines)
    assert published.rmse is None
    assert "NDCG" in published.sentence()
    [(n, n_rated)] = rows(
        engine, "SELECT count(*), count(predicted_rating) FROM mf.recommendations"
    )
    assert n > 0 == n_rated
