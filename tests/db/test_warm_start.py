"""Warm start over several nights, on a real Postgres: what tonight's model starts from."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.config import make_config
from mf_core.data.artifacts import read_manifest, remove_artifact
from mf_core.records import ModelRef, PublishReport, SplitRef
from mf_core.training.warm_start import reason_to_start_cold
from mf_core.warehouse.history import LiveModel

from .test_publish import rows
from .worlds import World, artifact_folder, fill_table, fit, load, make_ratings, make_world

SMALL = {
    "train__warm_start": True,
    "train__device": "cpu",
    "rating_head__als__n_factors": 4,
    "ranking_head__n_factors": 4,
    "ranking_head__iterations": 3,
    # Half of the ratings come later: so many more would ask for a search, and that starts cold.
    "train__settings": "fixed",
    "gate__max_rmse": 3,
    "gate__require_better_than_biases": False,
    "gate__require_popularity": False,
    "gate__max_rmse_loss": 9,
    "gate__max_ndcg_loss": 9,
    "gate__min_refit_overlap": 0,
    "gate__max_refit_error_ratio": 9,
}


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training lock of this test alone."""
    monkeypatch.setenv("MF_GPU_LOCK", str(tmp_path / "lock"))


@pytest.fixture
def lines() -> list[str]:
    """What the steps say."""
    return []


@pytest.fixture
def world(engine: Engine, tmp_path: Path, lines: list[str]) -> World:
    """Half of the ratings in the warehouse, and warm start on."""
    half = make_ratings()[::2]
    world = make_world(engine, tmp_path, half, log=lines)

    return world.with_settings(**SMALL)


def started_from(split: SplitRef) -> int | None:
    """The version that a night is meant to start from."""
    return split.start.model_version if split.start else None


def night(world: World, key: str) -> SplitRef:
    """Run one night with models made by NumPy; return what its split decided."""
    split = pipeline.split(world.config, world.place, key)
    fitted = fit(world, split)
    model = dataclasses.replace(fitted, warm_started_from=started_from(split))
    report = pipeline.evaluate(world.config, world.place, split, model)
    pipeline.gate(world.config, world.place, report)

    refitted = fit(world, split, "refit")
    fill_table(world, split, model, refitted)
    pipeline.verify(world.config, world.place, refitted)
    pipeline.publish(world.config, world.place, split, report)

    return split


def start_of(world: World, **settings: object) -> int | None:
    """What tonight's split would start from."""
    other = world.with_settings(**settings)
    split = pipeline.split(other.config, world.place, "tonight")

    return started_from(split)


def artifact(world: World, version: int, name: str) -> Path:
    """Return the path of a part of a version's evaluated models."""
    models = artifact_folder(world) / "models"
    return models / str(version) / "evaluated" / name


def train(world: World, split: SplitRef) -> ModelRef:
    """Train the model that is evaluated."""
    return pipeline.train(world.config, world.place.artifact_root, split, world.place.log)


def whole_night(world: World, key: str) -> PublishReport:
    """Run one night with real training."""
    split = pipeline.split(world.config, world.place, key)
    model = train(world, split)
    report = pipeline.evaluate(world.config, world.place, split, model)
    pipeline.gate(world.config, world.place, report)

    return pipeline.run_to_readers(world.config, world.place, split, model, report)


def test_the_second_night_starts_from_the_first_ones_evaluated_model(
    world: World, engine: Engine, lines: list[str]
) -> None:
    whole_night(world, "one")
    assert "a cold start: no version is live" in lines

    more = make_ratings()[1::2]
    user_id = more["user_id"].replace("u001", "somebody new")
    load(engine, more.assign(user_id=user_id))
    lines.clear()
    whole_night(world, "two")

    assert "evaluated: starting from the evaluated model of version 1" in lines
    assert "refit: starting from the evaluated model of version 2" in lines

    versions = "SELECT model_version, warm_started_from FROM mf.models ORDER BY 1"
    assert rows(engine, versions) == [(1, None), (2, 1)]

    artifacts = """
        SELECT stage, uri, sha256
        FROM mf.model_artifacts
        WHERE model_version = 2 AND head = 'rating'
    """
    started = {}
    for stage, uri, sha256 in rows(engine, artifacts):
        manifest = read_manifest(uri, sha256)
        started[stage] = manifest["warm_started_from"]

    assert started == {"evaluated": 1, "refit": 2}


def test_a_repeated_split_decides_the_same(world: World) -> None:
    night(world, "one")
    split = pipeline.split(world.config, world.place, "two")
    again = pipeline.split(world.config, world.place, "two")

    assert split.start is not None
    assert split.start.model_version == 1
    evaluated = f"{world.place.artifact_root}/models/1/evaluated"
    assert split.start.heads["rating"].uri == f"{evaluated}/rating"
    assert split == again


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"split__seed": 1}, "was split otherwise"),
        ({"split__test_fraction": 0.2}, "was split otherwise"),
        (
            {"rating_head__als__n_factors": 5},
            "rating_head.als.n_factors is 5, but was 4 for version 1",
        ),
        ({"ranking_head__n_factors": 5}, "ranking_head.n_factors is 5"),
        ({"rating_head__solver": "bayes"}, "rating_head.solver is bayes, but was als"),
        ({"data__relevant_from": 3}, "data.relevant_from is 3.0"),
        ({"train__full_restart_every": 1}, "version 1 is number 1 of its lineage"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_night_of_another_kind_starts_cold(
    world: World, lines: list[str], settings: dict[str, object], words: str
) -> None:
    night(world, "one")
    start = start_of(world, **settings)
    cold = [line for line in lines if line.startswith("a cold start: ")]

    assert start is None
    assert any(words in line for line in cold)
    assert start_of(world) == 1


def test_without_warm_start_nothing_is_said_of_it(world: World, lines: list[str]) -> None:
    night(world, "one")
    lines.clear()
    start = start_of(world, train__warm_start=False)

    assert start is None
    assert not any("start" in line for line in lines)


def test_every_third_night_starts_cold(world: World) -> None:
    every_third = world.with_settings(train__full_restart_every=3)
    nights = [night(every_third, key) for key in "abcdefg"]
    starts = [started_from(split) for split in nights]

    assert starts == [None, 1, 2, None, 4, 5, None]


def test_after_a_rollback_the_version_gone_back_to_is_the_start(world: World) -> None:
    night(world, "one")
    night(world, "two")
    pipeline.rollback(world.place)

    assert start_of(world) == 1


def test_a_damaged_start_is_seen_at_the_split(world: World, lines: list[str]) -> None:
    night(world, "one")
    path = artifact(world, 1, "ranking/item_factors.npy")
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    assert start_of(world) is None

    cold = [line for line in lines if "a cold start: the artifact file" in line]
    assert any("was changed or damaged" in line for line in cold)

    remove_artifact(str(artifact(world, 1, "")))
    assert start_of(world) is None


def test_a_start_that_is_lost_after_the_split_makes_a_cold_night_and_an_honest_record(
    world: World, engine: Engine, lines: list[str]
) -> None:
    night(world, "one")
    split = pipeline.split(world.config, world.place, "two")
    remove_artifact(str(artifact(world, 1, "rating")))
    model = train(world, split)
    said = "evaluated: a cold start, since version 1 can't be started from"

    assert any(said in line for line in lines)

    pipeline.evaluate(world.config, world.place, split, model)
    recorded = "SELECT warm_started_from FROM mf.models WHERE model_version = 2"

    assert rows(engine, recorded) == [(None,)]

    # Asked again it finds its result, and a refit of it starts cold too.
    assert train(world, split) == model

    lines.clear()
    pipeline.refit(world.config, world.place.artifact_root, split, model, world.place.log)

    assert not any("starting from" in line for line in lines)


def test_settings_that_older_code_stored_make_a_cold_start() -> None:
    config = make_config({"train.warm_start": True})
    older: dict[str, Any] = {"rating_head": {"solver": "bayes"}, "data": None}
    live = LiveModel(3, "s", older, 1)
    reason = reason_to_start_cold(config, "s", live)

    assert reason == "data.scale_low is 1.0, but was None for version 3"
