"""How a version goes live and leaves, who did it, and what a version that went live refuses."""

import getpass
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.errors import ConfigError, GateError, StateError
from mf_core.training.manifest import Manifest, refuse_sealed
from mf_core.warehouse import lineage, readers, transaction, verdicts

from .test_pipeline import judged
from .test_publish import prepared, publish_one, rows
from .worlds import World, fill_table, fit, make_world


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """Ratings in the warehouse."""
    return make_world(engine, tmp_path, log=[])


def test_runs_that_died_long_ago_are_stopped_by_a_later_night(world: World, engine: Engine) -> None:
    dead = pipeline.split(world.config, world.place, "dead").model_version
    young = pipeline.split(world.config, world.place, "young").model_version
    with transaction(engine) as connection:
        connection.execute(
            sa.text(
                "UPDATE mf.models SET created_at = now() - interval '3 days' "
                "WHERE model_version = :v"
            ),
            {"v": dead},
        )
    publish_one(world, "tonight")
    states = dict(rows(engine, "SELECT model_version, state FROM mf.models"))
    assert (states[dead], states[young]) == ("stopped", "created")


def test_a_published_version_is_never_judged_prepared_or_written_again(
    world: World, engine: Engine
) -> None:
    split, model, report = judged(world, "one")
    pipeline.gate(world.config, world.place, report)
    refitted = fit(world, split, "refit")
    fill_table(world, split, model, refitted)
    pipeline.verify(world.config, world.place, refitted)
    published = pipeline.publish(world.config, world.place, split, report)
    before = rows(engine, "SELECT * FROM mf.recommendations ORDER BY user_id, rank")
    figures = rows(engine, "SELECT * FROM mf.evaluations")
    for step in (
        lambda: pipeline.evaluate(world.config, world.place, split, model),
        lambda: pipeline.record_training(world.config, world.place, split, model),
        lambda: pipeline.gate(world.config, world.place, report),
        lambda: pipeline.prepare(world.config, world.place, split, model, refitted),
        lambda: pipeline.recommend_shard(world.config, world.place, refitted, 0),
        lambda: pipeline.override(world.place, split.model_version, "Ada", "because"),
    ):
        with pytest.raises(StateError, match=r"is published.*start a new run"):
            step()
    assert pipeline.publish(world.config, world.place, split, report) == published
    assert rows(engine, "SELECT state FROM mf.models") == [("published",)]
    assert rows(engine, "SELECT * FROM mf.recommendations ORDER BY user_id, rank") == before
    assert rows(engine, "SELECT * FROM mf.evaluations") == figures
    assert len(rows(engine, "SELECT 1 FROM mf.gate_decisions WHERE stage = 'evaluated'")) == 1


def test_a_task_cleared_after_the_lists_are_gone_says_so(world: World) -> None:
    small = world.with_settings(publish__keep_versions=1)
    split, model, report = judged(small, "one")
    pipeline.gate(small.config, world.place, report)
    refitted = fit(world, split, "refit")
    fill_table(small, split, model, refitted)
    pipeline.verify(small.config, world.place, refitted)
    pipeline.publish(small.config, world.place, split, report)
    publish_one(small, "two")
    with pytest.raises(StateError, match="is retired, so it can't be verified"):
        pipeline.verify(small.config, world.place, refitted)


def test_the_models_of_a_published_version_are_never_trained_again(world: World) -> None:
    version = publish_one(world, "one")
    # As an older release left it: the next publication makes up for it.
    folder = Path(world.place.artifact_root.removeprefix("file://")) / "models" / str(version)
    (folder / "published").unlink()
    publish_one(world, "later")
    split = pipeline.split(world.config, world.place, "two")
    root = world.place.artifact_root
    refuse_sealed(Manifest.of(world.config, split, "evaluated", root, parent_pid=1))
    sealed = Manifest.of(
        world.config,
        type(split)(**{**vars(split), "model_version": version}),
        "evaluated",
        root,
        parent_pid=1,
    )
    with pytest.raises(StateError, match="was published, so it can't be trained again"):
        refuse_sealed(sealed)


def test_an_overridden_version_says_so_and_the_gate_keeps_silent_when_it_is_cleared(
    world: World, engine: Engine
) -> None:
    split, model, report = judged(world, "one", noise=3.0)
    with pytest.raises(GateError):
        pipeline.gate(world.config, world.place, report)
    pipeline.override(world.place, split.model_version, "Ada", "the catalogue was replaced")
    pipeline.gate(world.config, world.place, report)
    pipeline.gate(world.config, world.place, report)
    decided = rows(engine, "SELECT stage, approved, decided_by FROM mf.gate_decisions ORDER BY 1")
    assert decided == [("evaluated", False, "gate"), ("override", True, "Ada")]
    refitted = fit(world, split, "refit", noise=3.0)
    fill_table(world, split, model, refitted)
    pipeline.verify(world.config, world.place, refitted)
    pipeline.publish(world.config, world.place, split, report)
    [(went_live,)] = rows(engine, "SELECT went_live FROM mf.model_history")
    assert went_live == "by an override of Ada: the catalogue was replaced"
    with transaction(engine) as connection:
        assert readers.status(connection)["went_live"] == went_live


def test_an_override_of_the_refits_refusal_lets_the_refit_pass(
    world: World, engine: Engine
) -> None:
    split, model, report = judged(world, "one")
    pipeline.gate(world.config, world.place, report)
    strayed = fit(world, split, "refit", noise=1.5)
    with pytest.raises(GateError, match="refit"):
        pipeline.prepare(world.config, world.place, split, model, strayed)
    pipeline.override(world.place, split.model_version, "Ada", "seen and wanted")
    assert pipeline.prepare(world.config, world.place, split, model, strayed)
    with transaction(engine) as connection:
        approval = verdicts.approval_of(connection, split.model_version)
    assert (approval.overridden_by, approval.reason) == ("Ada", "seen and wanted")


def test_an_approval_after_a_repeated_judgement_counts_for_the_gate(
    world: World, engine: Engine
) -> None:
    strict = world.with_settings(gate__max_rmse=0.001)
    split, _, report = judged(world, "one")
    with pytest.raises(GateError):
        pipeline.gate(strict.config, world.place, report)
    pipeline.override(world.place, split.model_version, "Ada", "too strict")
    pipeline.gate(world.config, world.place, report)
    with transaction(engine) as connection:
        assert verdicts.approval_of(connection, split.model_version).overridden_by is None


def test_rollback_walks_back_and_never_to_what_a_rollback_left(
    world: World, engine: Engine
) -> None:
    one, two, three = (publish_one(world, key) for key in ("one", "two", "three"))
    first = pipeline.rollback(world.place)
    assert (first.previous_version, first.model_version) == (three, two)
    assert first.sentence().startswith(f"from {three} to {two}, published on 20")
    second = pipeline.rollback(world.place)
    assert (second.previous_version, second.model_version) == (two, one)
    with pytest.raises(
        ConfigError, match=r"none of them was live before .* not left by a rollback"
    ):
        pipeline.rollback(world.place)
    four = publish_one(world, "four")
    third = pipeline.rollback(world.place)
    assert (third.previous_version, third.model_version) == (four, one)
    assert pipeline.rollback(world.place, three).model_version == three
    assert rows(engine, "SELECT model_version FROM mf.live") == [(three,)]


def test_a_plain_rollback_never_goes_forward(world: World) -> None:
    one = publish_one(world, "one")
    publish_one(world, "two")
    three = publish_one(world, "three")
    assert pipeline.rollback(world.place, one).previous_version == three
    with pytest.raises(ConfigError, match="can't roll back to an earlier version"):
        pipeline.rollback(world.place)


def test_who_acts_is_on_record(world: World, engine: Engine) -> None:
    from dataclasses import replace

    one = publish_one(world, "one")
    ada = World(replace(world.place, actor="Ada"), world.config)
    two = publish_one(ada, "two")
    bob = replace(world.place, actor="Bob")
    report = pipeline.rollback(bob)
    assert (report.model_version, report.rolled_back_by) == (one, "Bob")
    promoted = rows(
        engine,
        "SELECT model_version, how, promoted_by FROM mf.promotions ORDER BY promotion_id",
    )
    assert promoted == [(one, "gate", "mf"), (two, "gate", "Ada"), (one, "rollback", "Bob")]
    history = dict(rows(engine, "SELECT model_version, went_live FROM mf.model_history"))
    assert history == {one: f"by a rollback of Bob, from version {two}", two: "by the gate"}
    with transaction(engine) as connection:
        readers.hide(connection, "i001", reason="recalled", by="Bob")
    assert rows(engine, "SELECT hidden_by FROM mf.hidden_items") == [("Bob",)]


def test_without_a_name_it_is_the_user_of_the_operating_system(warehouse_url: str) -> None:
    place = pipeline.workplace(warehouse_url, "file:///nowhere")
    place.engine.dispose()
    assert place.actor == getpass.getuser()


def test_ndcg_is_shown_whatever_the_cutoff(world: World, engine: Engine) -> None:
    assert world.config.gate.cutoff == 5
    publish_one(world, "one")
    [(ndcg, at_10, cutoff)] = rows(engine, "SELECT ndcg, ndcg_at_10, cutoff FROM mf.model_history")
    assert ndcg > 0
    assert at_10 is None
    assert cutoff == 5
    with transaction(engine) as connection:
        found = readers.status(connection)
    assert (found["ndcg"], found["cutoff"]) == (ndcg, 5)


def test_a_publish_killed_while_it_judged_again_judges_and_goes_live(
    world: World, engine: Engine
) -> None:
    version, publish_it = prepared(world, "late")
    publish_one(world, "first")
    with transaction(engine) as connection:
        split = lineage.load_split_ref(connection, version)
    pipeline.evaluate(world.config, world.place, split, fit(world, split))
    assert rows(engine, "SELECT state FROM mf.models WHERE model_version = :v", v=version) == [
        ("evaluated",)
    ]
    publish_it()
    assert rows(engine, "SELECT model_version FROM mf.live") == [(version,)]
