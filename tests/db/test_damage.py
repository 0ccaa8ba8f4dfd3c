"""A flipped bit, half a file, a missing one: in each kind of artifact, and the step that mends it.

What the trainer mends is in tests/core/test_train_process.py.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine
from upath import UPath

from mf_core import pipeline
from mf_core.data.artifacts import check_artifact, write_artifact
from mf_core.data.snapshot import read_snapshot
from mf_core.data.store import temporary_beside
from mf_core.errors import ArtifactError, GateError, StateError
from mf_core.records import ModelRef, SplitRef
from mf_core.training.manifest import Manifest, finished, refuse_sealed, write_result
from mf_core.warehouse import lineage, transaction
from tests.damage import DAMAGES, do_damage, files_below

from .test_pipeline import judged
from .test_publish import prepared, publish_one, rows
from .worlds import World, artifact_folder, fill_table, fit, make_world


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """Ratings in the warehouse."""
    return make_world(engine, tmp_path, log=[])


@pytest.mark.parametrize("damage", DAMAGES)
def test_split_mends_each_file_of_its_snapshot(world: World, damage: str) -> None:
    split = pipeline.split(world.config, world.place, "one")
    files = files_below(split.uri)
    assert len(files) == 5
    for file in files:
        do_damage(file, damage)
        with pytest.raises(ArtifactError, match=r"[Rr]un the step that writes it again"):
            read_snapshot(split.uri, split.sha256)

        assert pipeline.split(world.config, world.place, "one") == split
        read_snapshot(split.uri, split.sha256)


def test_a_night_without_news_mends_the_live_version_s_snapshot(world: World) -> None:
    publish_one(world, "one")
    split = pipeline.split(world.config, world.place, "two")
    do_damage(files_below(split.uri)[0], "truncate")

    idle = world.with_settings(run__force=False)
    assert not pipeline.split(idle.config, idle.place, "three").news
    check_artifact(split.uri, split.sha256)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_refit_with_a_damaged_file_is_not_finished_kept_samples_included(
    world: World, damage: str
) -> None:
    split = pipeline.split(world.config, world.place, "one")
    root = world.place.artifact_root
    manifest = Manifest.of(world.config, split, "refit", root, parent_pid=1)
    model = fit(world, split, "refit", n_samples=3)
    write_result(manifest, model)

    # Two heads with a manifest each, the samples of both sides and their variances, the result.
    files = files_below(manifest.output_uri)
    assert len(files) == 2 * 7 + 2 * 3 + 2 + 1
    for file in files:
        content = file.read_bytes()
        do_damage(file, damage)
        assert finished(manifest) is None, file
        file.write_bytes(content)

    # As the trainer does it, which finds nothing finished.
    damage_all(manifest.output_uri, damage)
    assert fit(world, split, "refit", n_samples=3) == model
    write_result(manifest, model)
    assert finished(manifest) == model


class Night:
    """A run whose steps can be called again and again, as tasks that are cleared."""

    def __init__(self, world: World, key: str) -> None:
        self._world = world
        self._key = key
        self.clear_split()

    def clear_split(self) -> None:
        """Run the steps from `split` to `gate`."""
        config, place = self._world.config, self._world.place
        self.split = pipeline.split(config, place, self._key)
        self.clear_train()
        self.evaluate()

    def clear_train(self) -> None:
        """Train again what is damaged."""
        self.model = fit(self._world, self.split)

    def evaluate(self) -> None:
        """Run `evaluate` and `gate`."""
        config, place = self._world.config, self._world.place
        self.report = pipeline.evaluate(config, place, self.split, self.model)
        pipeline.gate(config, place, self.report)

    def clear_refit(self) -> None:
        """Refit again what is damaged."""
        self.refitted = fit(self._world, self.split, "refit")

    def prepare(self) -> None:
        """Run `prepare`."""
        config, place = self._world.config, self._world.place
        pipeline.prepare(config, place, self.split, self.model, self.refitted)

    def recommend(self) -> None:
        """Run `recommend` on all shards."""
        config, place = self._world.config, self._world.place
        for shard in range(config.recommend.shards):
            pipeline.recommend_shard(config, place, self.refitted, shard)

    def publish(self) -> int:
        """Run `verify` and `publish`, and return the version."""
        config, place = self._world.config, self._world.place
        pipeline.verify(config, place, self.refitted)
        return pipeline.publish(config, place, self.split, self.report).model_version


def test_each_step_names_the_damage_and_goes_on_when_the_step_before_was_run_again(
    world: World,
) -> None:
    night = Night(world, "one")

    def fails(step: Callable[[], None]) -> None:
        with pytest.raises(ArtifactError, match=r"[Rr]un the step that writes it again"):
            step()

    damage_all(night.model.heads["ranking"].uri, "truncate")
    fails(night.evaluate)
    night.clear_train()
    night.evaluate()

    night.clear_refit()
    damage_all(night.refitted.heads["rating"].uri, "flip a bit")
    fails(night.prepare)
    night.clear_refit()
    night.prepare()

    damage_all(night.refitted.heads["ranking"].uri, "delete")
    fails(night.recommend)
    night.clear_refit()
    night.recommend()

    damage_all(night.split.uri, "flip a bit")
    fails(night.recommend)
    night.clear_split()
    night.prepare()
    night.recommend()
    assert night.publish() == night.split.model_version


def damage_all(uri: str, damage: str) -> None:
    """Damage every file of an artifact."""
    for file in files_below(uri):
        do_damage(file, damage)


def test_a_damaged_champion_is_overridden_once_and_the_next_night_compares_again(
    world: World, engine: Engine
) -> None:
    first = publish_one(world, "one")
    damage_all(f"{world.place.artifact_root}/models/{first}", "flip a bit")

    # Its models are sealed: to train them again is refused, and the way out named.
    split, model, report = judged(world, "two")
    sealed = replace(split, model_version=first)
    root = world.place.artifact_root
    manifest = Manifest.of(world.config, sealed, "evaluated", root, parent_pid=1)
    assert finished(manifest) is None
    with pytest.raises(StateError, match=r"docs/runbook.md#artifacts"):
        refuse_sealed(manifest)

    with pytest.raises(GateError, match="is unknown"):
        pipeline.gate(world.config, world.place, report)
    pipeline.override(world.place, split.model_version, by="Ada", reason="damaged champion")
    _publish(world, split, model)

    # The lists of the damaged one are whole: a rollback needs nothing else.
    pipeline.rollback(world.place, first)
    [(live,)] = rows(engine, "SELECT DISTINCT model_version FROM mf.recommendations")
    assert live == first
    pipeline.rollback(world.place, split.model_version)

    _, _, next_report = judged(world, "three")
    assert next_report.champion_version == split.model_version
    pipeline.gate(world.config, world.place, next_report)


def _publish(world: World, split: SplitRef, model: ModelRef) -> None:
    """Run the steps after an approval."""
    refitted = fit(world, split, "refit")
    fill_table(world, split, model, refitted)
    pipeline.verify(world.config, world.place, refitted)
    report = pipeline.report_of(world.config, world.place, split.model_version)
    pipeline.publish(world.config, world.place, split, report)


@pytest.mark.parametrize("damage", DAMAGES)
def test_publish_mends_the_seal_and_a_damaged_one_seals(world: World, damage: str) -> None:
    version, publish_it = prepared(world, "one")
    publish_it()
    seal = UPath(artifact_folder(world) / "models" / str(version) / "published")
    content = seal.read_bytes()
    do_damage(seal, damage)
    if damage != "delete":
        with transaction(world.place.engine) as connection:
            split = lineage.load_split_ref(connection, version)
        root = world.place.artifact_root
        with pytest.raises(StateError, match="was published"):
            refuse_sealed(Manifest.of(world.config, split, "refit", root, parent_pid=1))

    publish_it()
    assert seal.read_bytes() == content


def test_split_removes_what_killed_writers_left_and_nothing_of_living_ones(
    world: World,
) -> None:
    store = artifact_folder(world) / "snapshots"
    pid = os.fork()
    if pid == 0:
        # Killed between its last write and the rename.
        os.rename = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
        write_artifact(str(store / "yesterday"), {"x": b""}, {})
        os._exit(1)
    os.waitpid(pid, 0)
    assert len(list(store.iterdir())) == 1

    with temporary_beside(UPath(store / "now")) as mine:
        mine.mkdir()
        split = pipeline.split(world.config, world.place, "one")
        assert set(store.iterdir()) == {Path(mine.path), store / split.snapshot_id}
