"""Fingerprints change with what shapes a result, its code included, and with nothing else."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mf_core
from mf_core import provenance
from mf_core.config import Config, make_config
from mf_core.provenance import MODEL_SOURCES, RESULT_SOURCES, code_version, result_fingerprint
from mf_core.training.manifest import Manifest

Change = Callable[[str], None]


@pytest.fixture
def change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Change]:
    """A copy of the sources that fingerprints are taken of; call it to change one of them."""
    copy = tmp_path / "mf_core"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(mf_core.__file__).parent, copy, ignore=ignored)
    monkeypatch.setattr(provenance, "_PACKAGE", copy)

    def append(name: str) -> None:
        path = copy / name
        path.write_text(path.read_text() + "\n# changed\n")
        provenance.source_hash.cache_clear()

    provenance.source_hash.cache_clear()
    yield append
    provenance.source_hash.cache_clear()


def manifest(**overrides: object) -> Manifest:
    config = make_config({name.replace("__", "."): value for name, value in overrides.items()})
    return Manifest(
        snapshot_uri="file:///s",
        snapshot_sha256="0" * 64,
        stage="evaluated",
        model_version=1,
        config=config.model_dump(mode="json"),
        output_uri="file:///o",
        checkpoint_uri="file:///c",
        parent_pid=1,
    )


def test_every_source_that_is_named_exists() -> None:
    for source in RESULT_SOURCES:
        assert (provenance._PACKAGE / source).exists(), source


@pytest.mark.parametrize("name", ["solvers/bayes.py", "training/process.py", "models/factors.py"])
def test_a_change_of_the_code_that_fits_trains_again(change: Change, name: str) -> None:
    before = (manifest().fingerprint(), result_fingerprint(Config()), code_version())
    change(name)
    after = (manifest().fingerprint(), result_fingerprint(Config()), code_version())
    assert not set(before) & set(after)


@pytest.mark.parametrize("name", ["judging/gate.py", "publishing/recommend.py"])
def test_a_change_of_the_code_that_judges_or_lists_leaves_a_trained_model(
    change: Change, name: str
) -> None:
    trained = manifest().fingerprint()
    version = code_version()
    change(name)
    assert manifest().fingerprint() == trained
    assert code_version() != version


@pytest.mark.parametrize("name", ["cli/steps.py", "tune/search.py", "warehouse/engine.py"])
def test_a_change_of_other_code_changes_no_fingerprint(change: Change, name: str) -> None:
    before = (manifest().fingerprint(), result_fingerprint(Config()), code_version())
    change(name)
    assert (manifest().fingerprint(), result_fingerprint(Config()), code_version()) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recommend__tile_mib", 7),
        ("recommend__shards", 9),
        ("publish__keep_versions", 9),
        ("train__device", "cpu"),
        ("gate__max_rmse", 0.5),
        ("gate__max_ndcg_loss", 0.5),
    ],
)
def test_settings_that_shape_no_result_leave_it_as_it_is(name: str, value: object) -> None:
    changed = make_config({name.replace("__", "."): value})
    assert result_fingerprint(changed) == result_fingerprint(Config())
    assert manifest(**{name: value}).fingerprint() == manifest().fingerprint()


def test_settings_of_the_lists_make_a_night_and_leave_a_trained_model() -> None:
    longer = make_config({"recommend.top_n": 25})
    assert result_fingerprint(longer) != result_fingerprint(Config())
    assert manifest(recommend__top_n=25).fingerprint() == manifest().fingerprint()
    assert manifest(train__seed=1).fingerprint() != manifest().fingerprint()


def test_the_code_version_names_release_sources_and_commit() -> None:
    assert set(MODEL_SOURCES) <= set(RESULT_SOURCES)
    pattern = rf"{re.escape(mf_core.__version__)}\+[0-9a-f]{{12}}(\.g[0-9a-f]{{12}})?"
    assert re.fullmatch(pattern, code_version())
