"""Found settings from night to night: when they are searched for, stored, applied, left alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.config import make_config
from mf_core.data.snapshot import read_snapshot
from mf_core.records import ModelRef, PublishReport, SplitRef
from mf_core.training.found import basis, in_force
from mf_core.warehouse import found as finds
from mf_core.warehouse import history, lineage, transaction

from .test_publish import rows
from .worlds import World, fill_table, fit, found_by, load, make_ratings, make_world

FOUND = {"ranking_head.unobserved_scale": 0.05, "ranking_head.regularization": 0.03}


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """Planted ratings in a fresh warehouse."""
    return make_world(engine, tmp_path)


def trained(world: World, split: SplitRef, settings: dict[str, Any] = FOUND) -> ModelRef:
    """Return what a training makes: if a search was due, with what it has found."""
    model = fit(world, split)
    if not split.search:
        return model
    return replace(model, found=found_by(read_snapshot(split.uri, split.sha256), settings))


def night(world: World, key: str, settings: dict[str, Any] = FOUND) -> tuple[SplitRef, int]:
    """Run a whole night; return its split and the version that went live."""
    split = pipeline.split(world.config, world.place, key)
    model = trained(world, split, settings)
    report = pipeline.evaluate(world.config, world.place, split, model)
    pipeline.gate(world.config, world.place, report)
    refitted = replace(fit(world, split, "refit"), found=model.found)
    fill_table(world, split, model, refitted)
    pipeline.verify(world.config, world.place, refitted)
    published = pipeline.publish(world.config, world.place, split, report)
    assert isinstance(published, PublishReport)
    return split, published.model_version


def test_the_first_night_searches_and_the_second_does_not(world: World, engine: Engine) -> None:
    first, version = night(world, "first")
    assert first.search
    assert first.found is None
    query = "SELECT model_version, source, settings, n_ratings FROM mf.found_settings"
    assert rows(engine, query) == [(version, "night", FOUND, first.n_train)]

    second, later = night(world, "second")
    assert not second.search
    assert second.found is not None
    assert second.found.settings == FOUND
    # Both versions say by which settings they were made, and that they are the same.
    said = rows(engine, "SELECT model_version, found_settings, found_on FROM mf.model_history")
    assert [(number, settings) for number, settings, _ in sorted(said)] == [
        (version, FOUND),
        (later, FOUND),
    ]
    assert all("NDCG@5 0.5 against 0.4" in words for *_, words in said)
    stored = rows(engine, "SELECT config -> 'ranking_head', training_fingerprint FROM mf.models")
    assert {config["unobserved_scale"] for config, _ in stored} == {0.05}
    assert len({fingerprint for _, fingerprint in stored}) == 1


def test_a_verdict_says_by_which_settings_the_version_is(world: World, engine: Engine) -> None:
    night(world, "first")
    [(reasons,)] = rows(engine, "SELECT reasons FROM mf.gate_decisions WHERE stage = 'evaluated'")
    [said] = [rule for rule in reasons if rule["rule"] == "settings"]
    assert said["passed"]
    assert "NDCG@5 0.5 against 0.4 with the shipped ones" in said["text"]
    assert "ranking_head.unobserved_scale=0.05" in said["text"]


def test_nothing_new_is_nothing_new_with_found_settings_too(world: World) -> None:
    lazy = world.with_settings(run__force=False)
    night(lazy, "first")
    assert not pipeline.split(lazy.config, lazy.place, "second").news


def test_a_run_that_is_started_over_after_its_search_does_not_search_again(
    world: World, engine: Engine
) -> None:
    split = pipeline.split(world.config, world.place, "first")
    model = trained(world, split)
    pipeline.evaluate(world.config, world.place, split, model)
    # A retry of the step alone, and one of the run.
    pipeline.evaluate(world.config, world.place, split, model)
    again = pipeline.split(world.config, world.place, "first")
    assert again.model_version == split.model_version
    assert not again.search
    assert again.found is not None
    assert again.found.settings == FOUND
    assert rows(engine, "SELECT count(*) FROM mf.found_settings") == [(1,)]


def test_a_version_is_found_again_with_its_settings(world: World, engine: Engine) -> None:
    _, version = night(world, "first")
    with transaction(engine) as connection:
        model = lineage.load_model_ref(connection, version, "evaluated")
        stored = lineage.load_split_ref(connection, version)
    assert model.found is not None
    assert model.found.settings == FOUND
    assert in_force(world.config, model).ranking_head.unobserved_scale == 0.05
    assert not stored.search
    assert stored.found == model.found


def test_they_are_searched_again_after_so_many_versions(world: World) -> None:
    often = world.with_settings(train__search_every=2)
    searched = [night(often, key)[0].search for key in ("1", "2", "3", "4")]
    assert searched == [True, False, True, False]


def test_they_are_searched_again_when_the_shape_has_moved(world: World, engine: Engine) -> None:
    night(world, "first")
    more = make_ratings(seed=1)
    more["user_id"] = "new-" + more["user_id"]
    load(engine, more)
    split = pipeline.split(world.config, world.place, "second")
    assert split.search
    # It begins at what was found before.
    assert split.found is not None
    assert split.found.settings == FOUND
    said = world.place.log.__self__  # type: ignore[attr-defined]
    [due] = [line for line in said if "a search is due: " in line and "none were" not in line]
    assert " ratings to train on, " in due


def test_what_a_person_sets_is_left_alone_and_asks_for_a_search(world: World) -> None:
    night(world, "first")
    pinned = world.with_settings(ranking_head__unobserved_scale=0.4)
    split = pipeline.split(pinned.config, pinned.place, "second")
    assert split.search
    assert split.found is None

    model = trained(pinned, split)
    config = in_force(pinned.config, model)
    assert config.ranking_head.unobserved_scale == 0.4
    assert config.ranking_head.regularization == 0.03


def test_fixed_settings_are_exactly_those_of_the_run(world: World, engine: Engine) -> None:
    night(world, "first")
    fixed = world.with_settings(train__settings="fixed")
    split = pipeline.split(fixed.config, fixed.place, "second")
    assert not split.search
    assert split.found is None
    [(weight,)] = rows(
        engine,
        "SELECT config #> '{ranking_head,unobserved_scale}' FROM mf.models "
        f"WHERE model_version = {split.model_version}",
    )
    assert weight == make_config().ranking_head.unobserved_scale


def test_what_mf_tune_has_found_holds_from_the_next_night_on(world: World, engine: Engine) -> None:
    split, version = night(world, "first")
    snapshot = read_snapshot(split.uri, split.sha256)
    tuned = replace(found_by(snapshot, {"ranking_head.unobserved_scale": 0.07}), source="tune")
    with transaction(engine) as connection:
        finds.save(connection, tuned, fingerprint=basis(world.config))

    lazy = world.with_settings(run__force=False)
    second = pipeline.split(lazy.config, lazy.place, "second")
    assert second.news
    assert not second.search
    assert second.found is not None
    assert second.found.settings == tuned.settings
    with transaction(engine) as connection:
        assert history.live_version(connection) == version


def test_a_search_night_starts_cold(world: World) -> None:
    warm = world.with_settings(train__warm_start=True, train__search_every=2)
    night(warm, "first")
    assert pipeline.split(warm.config, warm.place, "second").start is not None
    night(warm, "second")
    third = pipeline.split(warm.config, warm.place, "third")
    assert third.search
    assert third.start is None


def test_other_found_factors_start_cold_and_say_so(world: World, engine: Engine) -> None:
    warm = world.with_settings(train__warm_start=True)
    split, _ = night(warm, "first")
    snapshot = read_snapshot(split.uri, split.sha256)
    tuned = found_by(snapshot, {"ranking_head.n_factors": 64})
    with transaction(engine) as connection:
        finds.save(connection, tuned, fingerprint=basis(warm.config))
    second = pipeline.split(warm.config, warm.place, "second")
    assert second.start is None
    said = warm.place.log.__self__  # type: ignore[attr-defined]
    assert any("ranking_head.n_factors is 64, but was 128" in line for line in said)


def test_settings_of_older_code_that_do_not_fit_are_searched_again(
    world: World, engine: Engine
) -> None:
    split, _ = night(world, "first")
    snapshot = read_snapshot(split.uri, split.sha256)
    gone = found_by(snapshot, {"ranking_head.no_longer_there": 1})
    with transaction(engine) as connection:
        finds.save(connection, gone, fingerprint=basis(world.config))
    second = pipeline.split(world.config, world.place, "second")
    assert second.search
    assert second.found is None
