"""Writers that are killed at any moment: what stood there stays, and what they leave goes."""

import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from mf_core.data.artifacts import (
    check_artifact,
    npy_bytes,
    read_file,
    read_manifest,
    sweep,
    write_artifact,
)
from mf_core.data.store import exists, temporary_beside, write
from mf_core.errors import ArtifactStoreError
from mf_core.pipeline import workplace
from tests.damage import do_damage

FILES = {f"{n}.npy": npy_bytes(np.full(100, n)) for n in range(3)}
DAY = 86_400
# What changes a disk, by the names of Python's audit events.
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")


def killed_before_change(number: int, root: Path, work: Callable[[], object]) -> bool:
    """Do `work` in a process that kills itself before its change `number` of the disk below `root`.

    Returns:
        Whether it came so far; False: it ended before.
    """
    child = os.fork()
    if child == 0:
        _work_and_die(number, root, work)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def _work_and_die(number: int, root: Path, work: Callable[[], object]) -> NoReturn:
    changes = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal changes
        opened_to_write = event == "open" and str(arguments[1])[:1] in ("w", "a", "x")
        if event in CHANGES or opened_to_write:
            changes += str(arguments[0]).startswith(str(root))
            if changes > number:
                os.kill(os.getpid(), signal.SIGKILL)

    status = 1
    try:
        sys.addaudithook(count)
        work()
        status = 0
    finally:
        os._exit(status)


def names_below(root: Path) -> list[str]:
    """Return the path of all that lies below a folder."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_writer_killed_at_any_moment_leaves_nothing_after_a_clean_run(tmp_path: Path) -> None:
    store = tmp_path / "snapshots"
    kills = 0
    while _killed_writing(f"{store}/{kills}", kills, tmp_path):
        # An artifact has its name when all of it is there.
        assert names_below(store / f"{kills}") in ([], sorted([*FILES, "manifest.json"]))
        kills += 1
    assert kills >= len(FILES) + 3

    named = [path for path in store.iterdir() if path.name[0] != "."]
    assert len(list(store.iterdir())) > len(named)
    sweep(str(tmp_path))
    assert sorted(store.iterdir()) == sorted(named)


def _killed_writing(uri: str, number: int, root: Path) -> bool:
    return killed_before_change(number, root, lambda: write_artifact(uri, FILES, {}))


def test_one_who_mends_and_is_killed_at_any_moment_takes_nothing_away(tmp_path: Path) -> None:
    uri = f"{tmp_path}/models/1/evaluated/rating"
    sha256 = write_artifact(uri, FILES, {})
    manifest = read_manifest(uri, sha256)

    kills = 0
    do_damage(UPath(uri) / "1.npy", "flip a bit")
    while _killed_writing(uri, kills, tmp_path):
        for name in ("0.npy", "2.npy"):
            read_file(uri, name, manifest)
        do_damage(UPath(uri) / "1.npy", "truncate")
        kills += 1
    assert kills >= 2

    check_artifact(uri, sha256)
    assert names_below(Path(uri)) != sorted([*FILES, "manifest.json"])
    sweep(str(tmp_path))
    assert names_below(Path(uri)) == sorted([*FILES, "manifest.json"])


def _grow_old(*paths: Path) -> None:
    """Make files and folders as old as no write takes."""
    long_ago = time.time() - DAY - 60
    for path in paths:
        os.utime(path, (long_ago, long_ago))


def test_what_a_living_process_writes_stays_and_so_does_anothers_until_it_is_old(
    tmp_path: Path,
) -> None:
    store = tmp_path / "snapshots"
    here = UPath(store / "mine")
    elsewhere = store / f".theirs.{'0' * 16}-1-1.{'0' * 32}"
    of_an_old_release = store / f".snapshot.{'0' * 32}"
    with temporary_beside(here) as mine:
        for folder in (Path(mine.path), elsewhere, of_an_old_release):
            folder.mkdir(parents=True)
            (folder / "x").touch()
            _grow_old(folder)
        sweep(str(tmp_path))
        assert len(list(store.iterdir())) == 3

        _grow_old(elsewhere / "x", of_an_old_release / "x")
        sweep(str(tmp_path))
        assert list(store.iterdir()) == [Path(mine.path)]
    assert list(store.iterdir()) == []


def test_a_number_that_another_process_has_by_now_is_not_mistaken(tmp_path: Path) -> None:
    store = tmp_path / "snapshots"
    with temporary_beside(UPath(store / "mine")) as mine:
        machine, pid, started = mine.name.split(".")[2].split("-")
        before = f"{machine}-{pid}-{int(started) - 1}"
        for folder in (Path(mine.path), store / f".a.{before}.{'0' * 32}"):
            folder.mkdir(parents=True)
        sweep(str(tmp_path))
        assert list(store.iterdir()) == [Path(mine.path)]


def test_names_that_only_look_temporary_stay(tmp_path: Path) -> None:
    store = tmp_path / "models" / "1"
    store.mkdir(parents=True)
    names = [".nfs0001", ".snapshot", ".DS_Store", "published"]
    for name in names:
        (store / name).touch()
        _grow_old(store / name)
    sweep(str(tmp_path))
    assert names_below(store) == sorted(names)


def test_in_an_object_store_an_artifact_without_manifest_goes_when_it_is_old(
    tmp_path: Path,
) -> None:
    root = UPath(f"memory://{tmp_path}")
    whole = root / "snapshots" / "whole"
    write_artifact(str(whole), FILES, {})
    halves = [root / "snapshots" / "half", root / "models" / "1" / "refit" / "rating"]
    for folder in halves:
        folder.mkdir(parents=True)
        write(folder / "x", b"")
    sweep(str(root))
    assert all((folder / "x").exists() for folder in halves)

    for file in (*halves[0].iterdir(), *halves[1].iterdir(), *whole.iterdir()):
        MemoryFileSystem.store[file.path].modified -= timedelta(seconds=DAY + 60)
    sweep(str(root))
    assert not any((folder / "x").exists() for folder in halves)
    assert len(list(whole.iterdir())) == len(FILES) + 1


@pytest.mark.parametrize("scheme", ["{}", "memory://{}"])
def test_a_file_is_replaced_in_one_go_and_nothing_is_left_beside_it(
    tmp_path: Path, scheme: str
) -> None:
    path = UPath(scheme.format(tmp_path / "x"))
    write(path, b"1")
    write(path, b"2")
    assert path.read_bytes() == b"2"
    assert [file.name for file in path.parent.iterdir()] == ["x"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    uri = f"{tmp_path}/snapshots/a"
    with pytest.raises(TypeError):
        write_artifact(uri, {"0": b"1", "1": None}, {})  # type: ignore[dict-item]
    with pytest.raises(ArtifactStoreError, match="could not be written"):
        write_artifact(uri, {"0": b"1", "no/such/folder": b"2"}, {})
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_what_a_disk_cant_tell_is_no_absence(tmp_path: Path) -> None:
    """The seal of a published version would seem not to be there, and it would be trained over."""
    assert not exists(UPath(tmp_path / "models" / "1" / "published"))
    # A mount that came to nothing may look so: what leads there leads back.
    loop = tmp_path / "models"
    loop.symlink_to(loop)
    with pytest.raises(ArtifactStoreError, match="could not be read"):
        exists(UPath(loop / "1" / "published"))


def test_the_default_root_lies_in_this_folder_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = tmp_path / "a b%20#ü"
    strange.mkdir()
    monkeypatch.chdir(strange)
    monkeypatch.delenv("MF_ARTIFACT_ROOT", raising=False)
    place = workplace("postgresql+psycopg2://nobody@localhost/nothing")
    write_artifact(f"{place.artifact_root}/snapshots/a", FILES, {})
    assert (strange / "var" / "artifacts" / "snapshots" / "a" / "0.npy").exists()
    assert list(tmp_path.iterdir()) == [strange]
