"""Artifacts are whole, checked and never pickled."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from upath import UPath

from mf_core.data.artifacts import (
    check_artifact,
    npy_array,
    npy_bytes,
    read_file,
    read_manifest,
    remove_artifact,
    write_artifact,
)
from mf_core.data.attributes import Attributes
from mf_core.data.ratings import UNDATED, Ratings, concatenate, id_map
from mf_core.data.snapshot import (
    Snapshot,
    content_hash,
    read_snapshot,
    sort_ratings,
    write_snapshot,
)
from mf_core.errors import ArtifactError
from mf_core.models.factors import FactorModel, load_model, save_model
from tests.damage import DAMAGES, do_damage, files_below

LEAP_DAY = 1_582_934_400  # 2020-02-29
AFTER_2038 = 2**31 + 5
HASH_OF_RELEASE_0_2_0 = "3dc950928676d33d07048c366d07bfa728371229c7c406a5c1edd3fc3b55e45a"


def int32(*values: int) -> np.ndarray:
    """Return values as int32."""
    return np.array(values, np.int32)


def float32(*values: float) -> np.ndarray:
    """Return values as float32."""
    return np.array(values, np.float32)


def texts(*values: str | None) -> np.ndarray:
    """Return texts as an array of objects."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def tiny_snapshot() -> Snapshot:
    """Return a snapshot of ids that ask for trouble, with two ratings on each side."""
    users = id_map(["b", "a", "ü", "a'; DROP TABLE ratings;--"])
    items = id_map(["007", "7", "\n"])
    train = Ratings(int32(0, 1), int32(2, 0), float32(1, 5))
    test = Ratings(train.user[::-1], train.item, train.value)

    return Snapshot(users, items, train, test)


def dated_snapshot() -> Snapshot:
    """Return the tiny snapshot with a time on each rating but the first."""
    tiny = tiny_snapshot()
    of_train = np.array([UNDATED, LEAP_DAY], np.uint32)
    of_test = np.array([AFTER_2038, 1], np.uint32)

    return dataclasses.replace(
        tiny,
        train=dataclasses.replace(tiny.train, rated_at=of_train),
        test=dataclasses.replace(tiny.test, rated_at=of_test),
    )


@pytest.mark.parametrize("scheme", ["file://{}", "memory://{}", "{}"])
def test_a_snapshot_comes_back_as_it_was(tmp_path: Path, scheme: str) -> None:
    uri = scheme.format(tmp_path / "snapshot")
    snapshot = tiny_snapshot()
    sha256 = write_snapshot(snapshot, uri, {})
    found = read_snapshot(uri, sha256)

    assert content_hash(found) == content_hash(snapshot)
    assert list(found.users.ids) == sorted(found.users.ids)
    assert {"007", "7"} < set(found.items.ids)
    assert found.train.rated_at is None


def test_times_come_back_as_they_were(tmp_path: Path) -> None:
    snapshot = dated_snapshot()
    uri = str(tmp_path / "snapshot")
    found = read_snapshot(uri, write_snapshot(snapshot, uri, {}))

    assert found.train.rated_at is not None
    assert found.train.rated_at.dtype == np.uint32
    assert found.train.rated_at.tolist() == [UNDATED, LEAP_DAY]
    assert found.test.rated_at is not None
    assert found.test.rated_at.tolist() == [AFTER_2038, 1]
    assert content_hash(found) == content_hash(snapshot)


def test_without_times_a_snapshot_is_what_it_was_before_there_were_any(tmp_path: Path) -> None:
    snapshot = tiny_snapshot()
    uri = tmp_path / "snapshot"
    write_snapshot(snapshot, str(uri), {})

    assert content_hash(snapshot) == HASH_OF_RELEASE_0_2_0
    assert pq.read_schema(uri / "train.parquet").names == ["user", "item", "value"]


def test_a_snapshot_that_pandas_wrote_is_read(tmp_path: Path) -> None:
    snapshot = dated_snapshot()
    attributes = Attributes(user=texts(None, '{"a": 1}', None, "{}"), item=texts(None, None, None))
    snapshot = dataclasses.replace(snapshot, attributes=attributes)
    frames = {
        "users": {"id": snapshot.users.ids, "attributes": attributes.user},
        "items": {"id": snapshot.items.ids, "attributes": attributes.item},
        "train": vars(snapshot.train),
        "test": vars(snapshot.test),
    }
    files = {}
    for name, columns in frames.items():
        files[f"{name}.parquet"] = pd.DataFrame(columns).to_parquet(index=False)

    uri = str(tmp_path / "snapshot")
    found = read_snapshot(uri, write_artifact(uri, files, {}))

    assert content_hash(found) == content_hash(snapshot)
    assert found.attributes is not None
    assert found.attributes.user.tolist() == attributes.user.tolist()
    assert found.attributes.item.tolist() == [None, None, None]


def test_the_content_hash_sees_every_part() -> None:
    snapshot = tiny_snapshot()
    train = snapshot.train
    other_users = id_map(["b", "a", "ü", "z"])
    other_values = Ratings(train.user, train.item, train.value + 1)
    dated = dated_snapshot()

    others = [
        dataclasses.replace(snapshot, users=other_users),
        dataclasses.replace(snapshot, train=snapshot.test, test=train),
        dataclasses.replace(snapshot, train=other_values),
        dated,
        dataclasses.replace(dated, test=snapshot.test),
        dataclasses.replace(dated, train=snapshot.train),
    ]
    hashes = {content_hash(found) for found in (snapshot, *others)}

    assert len(hashes) == 7


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    uri = str(tmp_path / "a")
    five = np.arange(5)
    sha256 = write_artifact(uri, {"x.npy": npy_bytes(five)}, {})
    manifest = read_manifest(uri, sha256)
    found = npy_array(read_file(uri, "x.npy", manifest))
    np.testing.assert_array_equal(found, five)

    path = tmp_path / "a" / "x.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")

    with pytest.raises(ArtifactError, match="was changed or damaged"):
        read_file(uri, "x.npy", manifest)

    (tmp_path / "a" / "manifest.json").write_text("{}")

    with pytest.raises(ArtifactError, match="was changed or damaged"):
        read_manifest(uri, sha256)


def test_a_missing_artifact_is_named(tmp_path: Path) -> None:
    uri = str(tmp_path / "none")

    with pytest.raises(ArtifactError, match="run the step that writes it again"):
        read_manifest(uri, "0" * 64)

    remove_artifact(uri)


def test_writing_twice_changes_nothing_and_other_content_takes_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    first = write_artifact(str(folder), {"x": b"1", "y": b"1"}, {"n": 1})
    written = {path: path.stat() for path in folder.iterdir()}
    again = write_artifact(str(folder), {"x": b"1", "y": b"1"}, {"n": 1})

    assert again == first
    assert {path: path.stat() for path in folder.iterdir()} == written

    other = write_artifact(str(folder), {"x": b"2"}, {"n": 1})
    assert other != first
    check_artifact(str(folder), other)

    names = sorted(path.name for path in tmp_path.rglob("*"))
    assert names == ["a", "manifest.json", "x"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("scheme", ["{}", "memory://{}"])
def test_writing_again_mends_each_file_that_is_damaged(
    tmp_path: Path, scheme: str, damage: str
) -> None:
    uri = scheme.format(tmp_path / "snapshot")
    snapshot = tiny_snapshot()
    sha256 = write_snapshot(snapshot, uri, {})

    for file in files_below(uri):
        do_damage(file, damage)
        with pytest.raises(ArtifactError):
            check_artifact(uri, sha256)

        assert write_snapshot(snapshot, uri, {}) == sha256
        check_artifact(uri, sha256)


def test_several_that_mend_at_once_and_readers_beside_them_see_no_other_damage(
    tmp_path: Path,
) -> None:
    uri = str(tmp_path / "a")
    files = {f"{n}.npy": npy_bytes(np.full(20_000, n)) for n in range(20)}
    sha256 = write_artifact(uri, files, {})
    manifest = read_manifest(uri, sha256)
    for damage, name in zip(DAMAGES, files, strict=False):
        do_damage(UPath(uri) / name, damage)
    whole = list(files)[len(DAMAGES) :]

    def write(_: int) -> str:
        return write_artifact(uri, files, {})

    def read(_: int) -> None:
        for name in whole:
            read_file(uri, name, manifest)

    with ThreadPoolExecutor(8) as pool:
        reads = pool.map(read, range(24))
        written = set(pool.map(write, range(12)))
        list(reads)

    assert written == {sha256}
    check_artifact(uri, sha256)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert {path.name for path in (tmp_path / "a").iterdir()} == {*files, "manifest.json"}


def test_writers_side_by_side_do_not_disturb_each_other(tmp_path: Path) -> None:
    uri = str(tmp_path / "a")
    content = npy_bytes(np.arange(20_000))
    files = {f"{n}.npy": content for n in range(20)}

    def write(_: int) -> str:
        return write_artifact(uri, files, {})

    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(write, range(24)))

    assert len(set(written)) == 1

    check_artifact(uri, written[0])

    names = [path.name for path in tmp_path.iterdir()]

    assert names == ["a"]


def test_an_object_array_is_not_written() -> None:
    array = np.array([object()])

    with pytest.raises(ValueError, match="allow_pickle"):
        npy_bytes(array)


def test_a_model_comes_back_and_predicts_cold_rows_by_what_is_known(tmp_path: Path) -> None:
    model = FactorModel(
        mean=3.0,
        user_bias=float32(0.5, 0.5),
        item_bias=float32(0.5, 0.5),
        user_factors=np.full((2, 2), 0.5, np.float32),
        item_factors=np.full((2, 2), 0.5, np.float32),
        users=id_map("ab"),
        items=id_map("xy"),
    )
    uri = str(tmp_path / "m")
    sha256 = save_model(model, uri, {"seed": 1})
    found = load_model(uri, sha256)

    # Both known, the item only, the user only, neither.
    predicted = found.predict(int32(0, -1, 0, -1), int32(0, 0, -1, -1))
    np.testing.assert_array_equal(predicted, [4.5, 3.5, 3.5, 3.0])

    manifest = json.loads((tmp_path / "m" / "manifest.json").read_text())

    assert manifest["seed"] == 1


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
    users = int32(*user)
    items = int32(*item)
    values = float32(*value)

    with pytest.raises(ValueError, match=words):
        Ratings(users, items, values)


def test_sorting_and_joining_ratings() -> None:
    part = Ratings(int32(1, 0, 1), int32(1, 5, 0), float32(1, 2, 3))
    both = sort_ratings(concatenate([part, part]))

    assert both.user.tolist() == [0, 0, 1, 1, 1, 1]
    assert both.item.tolist() == [5, 5, 0, 0, 1, 1]
    assert both.rated_at is None


def test_times_go_where_their_ratings_go() -> None:
    times = np.array([11, 5, 10], np.uint32)
    dated = Ratings(int32(1, 0, 1), int32(1, 5, 0), float32(1, 2, 3), times)
    undated = Ratings(int32(0), int32(0), float32(4))
    both = sort_ratings(concatenate([dated, undated]))

    assert both.rated_at is not None
    assert both.rated_at.tolist() == [UNDATED, 5, 10, 11]
    kept = both.take(both.value < 4).rated_at
    assert kept is not None
    assert kept.tolist() == [5, 10, 11]


def test_a_time_for_each_rating_or_none() -> None:
    with pytest.raises(ValueError, match="got 2 users and 1 times"):
        Ratings(int32(0, 1), int32(0, 1), float32(4, 4), np.array([7], np.uint32))
