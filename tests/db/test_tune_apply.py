"""What `mf tune` finds holds for the nights, if it is better where no trial was chosen."""

from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from mf_core import pipeline, tune
from mf_core.config import Config, make_config
from mf_core.errors import ConfigError
from mf_core.tune import TrialReport, TuneReport

from .test_cli import Mf
from .test_publish import rows
from .worlds import World, load, make_ratings, make_world

WEIGHT = "ranking_head.unobserved_scale"
SMALL = {"ranking_head.n_factors": 4, "ranking_head.iterations": 3, "train.device": "cpu"}


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """Planted ratings in a fresh warehouse."""
    return make_world(engine, tmp_path)


def report(*, gain: float) -> TuneReport:
    """A study whose second trial is better than the first by `gain` on both other parts."""
    begun = TrialReport(0, "complete", 0.40, 3, 1.0, {WEIGHT: 0.2}, True, (0.40, 0.42))
    other = TrialReport(
        1, "complete", 0.45, 3, 1.0, {WEIGHT: 0.05}, False, (0.40 + gain, 0.42 + gain)
    )
    return TuneReport("ranking-1", "NDCG@10", [other, begun], lower_is_better=False)


def test_a_winner_holds_from_the_next_night_on(world: World, engine: Engine) -> None:
    standing = tune.standing_of(world.config, engine)
    training = tune.read_warehouse(world.config, engine)
    found = tune.apply(engine, standing, training, report(gain=0.02))
    assert found is not None
    assert found.settings == {WEIGHT: 0.05}
    assert "NDCG@10 0.4300 against 0.4100 with the settings before" in found.grounds

    split = pipeline.split(world.config, world.place, "tonight")
    assert not split.search
    assert split.found is not None
    assert split.found.source == "tune"
    stored = rows(engine, "SELECT config #> '{ranking_head,unobserved_scale}' FROM mf.models")
    assert stored == [(0.05,)]
    # The next study begins there.
    again = tune.standing_of(world.config, engine)
    assert again.config.ranking_head.unobserved_scale == 0.05


def test_no_winner_changes_nothing(world: World, engine: Engine) -> None:
    standing = tune.standing_of(world.config, engine)
    training = tune.read_warehouse(world.config, engine)
    assert tune.apply(engine, standing, training, report(gain=-0.01)) is None
    uncompared = TuneReport("ranking-1", "NDCG@10", [], lower_is_better=False)
    assert tune.apply(engine, standing, training, uncompared) is None
    assert rows(engine, "SELECT count(*) FROM mf.found_settings") == [(0,)]


def test_fixed_settings_stand_as_they_are(world: World, engine: Engine) -> None:
    fixed = world.with_settings(train__settings="fixed", ranking_head__unobserved_scale=0.3)
    standing = tune.standing_of(fixed.config, engine)
    assert standing.config == fixed.config
    assert standing.pinned == frozenset()


def test_what_a_person_has_set_is_not_searched(world: World, engine: Engine) -> None:
    mine = make_config({WEIGHT: 0.3}, world.config)
    standing = tune.standing_of(mine, engine)
    training = tune.read_warehouse(mine, engine)
    task = tune.make_task(mine, "ranking", training, left_alone=standing.pinned)
    assert WEIGHT not in task.space
    assert "ranking_head.regularization" in task.space
    everything = frozenset(tune.make_task(Config(), "ranking", training).space)
    with pytest.raises(ConfigError, match="--no-apply"):
        tune.make_task(mine, "ranking", training, left_alone=everything)


def test_a_split_by_time_is_tuned_on_the_latest_rows(world: World, engine: Engine) -> None:
    temporal = make_config({"split.protocol": "temporal"}, world.config)
    training = tune.read_warehouse(temporal, engine)
    task = tune.make_task(temporal, "ranking", training)
    assert task.validation.rated_at is not None
    assert task.fitted.rated_at is not None
    assert task.validation.rated_at.min() >= task.fitted.rated_at.max()


def test_the_command_says_what_it_has_done(warehouse_url: str, engine: Engine) -> None:
    load(engine, make_ratings())
    settings = [f"--set={name}={value}" for name, value in SMALL.items()]
    mf = Mf(MF_DATABASE_URL=warehouse_url)
    short = ["tune", "--head", "ranking", "--trials", "2", "--parts", "1", *settings]
    applied = mf.json(*short)["applied"]
    kept = rows(engine, "SELECT source FROM mf.found_settings")
    assert applied.startswith("applied: " if kept else "not applied: nothing was better")

    assert mf.json(*short, "--no-apply")["applied"] == "not applied: --no-apply"
    fixed = mf.json(*short, "--set=train.settings=fixed")["applied"]
    assert fixed == "not applied: train.settings is fixed"
    assert rows(engine, "SELECT source FROM mf.found_settings") == kept
