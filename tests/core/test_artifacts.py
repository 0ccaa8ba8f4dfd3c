"""Artifacts are whole, checked and never pickled."""

import dataclasses
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mf_core.data.artifacts import (
    npy_array,
    npy_bytes,
    read_file,
    read_manifest,
    remove_artifact,
    write_artifact,
)
from mf_core.data.ratings import Ratings, concatenate, id_map
from mf_core.data.snapshot import (
    Snapshot,
    content_hash,
    read_snapshot,
    sort_ratings,
    write_snapshot,
)
from mf_core.errors import ArtifactError
from mf_core.models.factors import FactorModel, load_model, save_model


def tiny_snapshot() -> Snapshot:
    users, items = id_map(["b", "a", "ü", "a'; DROP TABLE ratings;--"]), id_map(["007", "7", "\n"])
    train = Ratings(
        np.array([0, 1], np.int32), np.array([2, 0], np.int32), np.array([1, 5], np.float32)
    )
    return Snapshot(users, items, train, Ratings(train.user[::-1], train.item, train.value))


@pytest.mark.parametrize("scheme", ["file://{}", "memory://{}", "{}"])
def test_a_snapshot_comes_back_as_it_was(tmp_path: Path, scheme: str) -> None:
    uri = scheme.format(tmp_path / "snapshot")
    snapshot = tiny_snapshot()
    found = read_snapshot(uri, write_snapshot(snapshot, uri, {}))
    assert content_hash(found) == content_hash(snapshot)
    assert list(found.users.ids) == sorted(found.users.ids)
    assert {"007", "7"} < set(found.items.ids)


def test_the_content_hash_sees_every_part() -> None:
    snapshot = tiny_snapshot()
    others = [
        dataclasses.replace(snapshot, users=id_map(["b", "a", "ü", "z"])),
        dataclasses.replace(snapshot, train=snapshot.test, test=snapshot.train),
        dataclasses.replace(
            snapshot,
            train=Ratings(snapshot.train.user, snapshot.train.item, snapshot.train.value + 1),
        ),
    ]
    assert len({content_hash(s) for s in (snapshot, *others)}) == 4


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    sha256 = write_artifact(str(tmp_path / "a"), {"x.npy": npy_bytes(np.arange(5))}, {})
    manifest = read_manifest(str(tmp_path / "a"), sha256)
    np.testing.assert_array_equal(
        npy_array(read_file(str(tmp_path / "a"), "x.npy", manifest)), np.arange(5)
    )
    path = tmp_path / "a" / "x.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(ArtifactError, match="was changed or damaged"):
        read_file(str(tmp_path / "a"), "x.npy", manifest)
    (tmp_path / "a" / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="was changed or damaged"):
        read_manifest(str(tmp_path / "a"), sha256)


def test_a_missing_artifact_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="run the step that writes it again"):
        read_manifest(str(tmp_path / "none"), "0" * 64)
    remove_artifact(str(tmp_path / "none"))


def test_writing_twice_changes_nothing_and_what_a_killed_writer_left_goes(tmp_path: Path) -> None:
    left_over = tmp_path / ".a.deadbeef"
    left_over.mkdir()
    (left_over / "x.npy").write_bytes(b"half")
    os.utime(left_over, (0, 0))
    first = write_artifact(str(tmp_path / "a"), {"x": b"1"}, {"n": 1})
    inode = (tmp_path / "a").stat().st_ino
    assert write_artifact(str(tmp_path / "a"), {"x": b"1"}, {"n": 1}) == first
    assert (tmp_path / "a").stat().st_ino == inode
    assert write_artifact(str(tmp_path / "a"), {"x": b"2"}, {"n": 1}) != first
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_writers_side_by_side_do_not_disturb_each_other(tmp_path: Path) -> None:
    files = {f"{n}.npy": npy_bytes(np.arange(20_000)) for n in range(20)}
    with ThreadPoolExecutor(8) as pool:
        written = list(
            pool.map(lambda _: write_artifact(str(tmp_path / "a"), files, {}), range(24))
        )
    assert len(set(written)) == 1
    read_manifest(str(tmp_path / "a"), written[0])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_object_array_is_not_written() -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        npy_bytes(np.array([object()]))


def test_a_model_comes_back_and_predicts_cold_rows_by_what_is_known(tmp_path: Path) -> None:
    model = FactorModel(
        3.0,
        *(np.full(shape, 0.5, np.float32) for shape in ((2,), (2,), (2, 2), (2, 2))),
        id_map("ab"),
        id_map("xy"),
    )
    found = load_model(str(tmp_path / "m"), save_model(model, str(tmp_path / "m"), {"seed": 1}))
    rows = np.array([0, -1, 0, -1], np.int32), np.array([0, 0, -1, -1], np.int32)
    np.testing.assert_array_equal(found.predict(*rows), [4.5, 3.5, 3.5, 3.0])
    assert json.loads((tmp_path / "m" / "manifest.json").read_text())["seed"] == 1


@pytest.mark.parametrize(
    ("user", "item", "value", "words"),
    [
        ([0], [0, 1], [1.0], "equal lengths"),
        ([-1], [0], [1.0], "negative"),
        ([0], [0], [np.nan], "finite"),
        ([0], [0], [np.inf], "finite"),
    ],
)
def test_ratings_are_checked_at_construction(
    user: list[int], item: list[int], value: list[float], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Ratings(np.array(user, np.int32), np.array(item, np.int32), np.array(value, np.float32))


def test_sorting_and_joining_ratings() -> None:
    part = Ratings(
        np.array([1, 0, 1], np.int32),
        np.array([1, 5, 0], np.int32),
        np.array([1, 2, 3], np.float32),
    )
    both = sort_ratings(concatenate([part, part]))
    assert both.user.tolist() == [0, 0, 1, 1, 1, 1]
    assert both.item.tolist() == [5, 5, 0, 0, 1, 1]
