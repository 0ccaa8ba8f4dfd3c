"""The search for settings in the trainer's process: once a night, and not again after a kill."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mf_core.config import make_config
from mf_core.data import store
from mf_core.data.artifacts import read_unchecked_manifest
from mf_core.data.ratings import Ratings, id_map
from mf_core.data.snapshot import Snapshot, sort_ratings, write_snapshot
from mf_core.records import FoundSettings
from mf_core.training import process, search
from mf_core.training.manifest import Manifest, finished, read_outcome, write_outcome

SMALL = {
    "rating_head.solver": "als",
    "rating_head.als.n_factors": 2,
    "rating_head.als.iterations": 2,
    "ranking_head.n_factors": 4,
    "ranking_head.iterations": 3,
    "train.device": "cpu",
}
CONFIG = make_config(SMALL)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """URI and sha256 of a snapshot in which users like the items of their own half."""
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random((120, 60)) < 0.25)
    same_half = (user % 2) == (item % 2)
    value = np.where(same_half, 5, rng.integers(1, 4, len(user))).astype(np.float32)
    ratings = sort_ratings(Ratings(user.astype(np.int32), item.astype(np.int32), value))
    is_test = rng.random(len(ratings)) < 0.3
    made = Snapshot(
        users=id_map(f"{number:03d}" for number in range(120)),
        items=id_map(f"{number:03d}" for number in range(60)),
        train=ratings.take(~is_test),
        test=ratings.take(is_test),
    )
    uri = str(tmp_path_factory.mktemp("data") / "snapshot")
    return uri, write_snapshot(made, uri, {})


def work(snapshot: tuple[str, str], root: Path, *, search: bool = True) -> Manifest:
    """What to train: the evaluated fit of version 1."""
    uri, sha256 = snapshot
    return Manifest(
        snapshot_uri=uri,
        snapshot_sha256=sha256,
        stage="evaluated",
        model_version=1,
        config=CONFIG.for_record(),
        output_uri=f"{root}/models/1/evaluated",
        checkpoint_uri=f"{root}/checkpoints/1-evaluated",
        parent_pid=1,
        search=search,
    )


def test_a_training_searches_and_fits_with_what_it_finds(
    snapshot: tuple[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = work(snapshot, tmp_path)
    process.train(manifest)
    model = finished(manifest)
    assert model is not None
    assert model.found is not None
    assert "search: NDCG@10" in capfd.readouterr().out

    # What a person has set is left alone, and what was tried has a figure each.
    tried = {name for trial in model.found.trials for name in trial["settings"]}
    assert tried
    assert not tried & set(SMALL)
    assert all(np.isfinite(trial["value"]) for trial in model.found.trials)
    [shipped, *_] = model.found.trials
    assert shipped["settings"] == {}

    # The model says by which settings it was fitted.
    config = read_unchecked_manifest(model.heads["ranking"].uri)["config"]
    for name, value in model.found.settings.items():
        section, _, leaf = name.partition(".")
        assert config[section][leaf] == value

    # Whoever asks for the same with the found settings finds it finished.
    again = dataclasses.replace(manifest, found=model.found, search=False)
    assert finished(again) == model
    other = dataclasses.replace(model.found, settings={"ranking_head.lowest_target": 0.9})
    assert finished(dataclasses.replace(again, found=other)) is None


def test_a_training_that_is_killed_after_its_search_does_not_search_again(
    snapshot: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        """The process ends here."""

    def kill(*_: object) -> None:
        raise KilledError

    manifest = work(snapshot, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(process, "_fit_heads", kill)
        with pytest.raises(KilledError):
            process.train(manifest)
    found = read_outcome(manifest)
    assert found is not None

    monkeypatch.setattr(search, "search_settings", kill)
    process.train(manifest)
    model = finished(manifest)
    assert model is not None
    assert model.found == found
    assert not store.exists(store.store_path(manifest.checkpoint_uri))


def test_found_settings_travel_as_json(snapshot: tuple[str, str], tmp_path: Path) -> None:
    found = FoundSettings(
        settings={"ranking_head.lowest_target": 0.5},
        source="tune",
        found_at="2026-01-01T00:00:00+00:00",
        grounds="",
        n_ratings=1,
        n_users=1,
        n_items=1,
        trials=[{"value": None}],
        found_id=3,
    )
    manifest = dataclasses.replace(work(snapshot, tmp_path), found=found)
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.settings().ranking_head.lowest_target == 0.5
    # When they were found, and by what, makes no other work of it.
    later = dataclasses.replace(found, found_at="2026-02-01T00:00:00+00:00", found_id=4)
    assert dataclasses.replace(manifest, found=later).fingerprint() == manifest.fingerprint()


def test_an_outcome_that_is_damaged_or_of_other_work_is_none(
    snapshot: tuple[str, str], tmp_path: Path
) -> None:
    manifest = work(snapshot, tmp_path)
    found = FoundSettings({}, "night", "2026-01-01T00:00:00+00:00", "none", 1, 1, 1)
    write_outcome(manifest, found)
    assert read_outcome(manifest) == found
    assert read_outcome(dataclasses.replace(manifest, snapshot_sha256="other")) is None

    path = Path(manifest.checkpoint_uri) / "search.json"
    path.write_text(path.read_text().replace("none", "some"))
    assert read_outcome(manifest) is None
