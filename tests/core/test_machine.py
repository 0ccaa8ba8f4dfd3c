"""What is free, on the machine and in a container."""

from pathlib import Path

import psutil
import pytest

from mf_core import machine


def _group(folder: Path, limit: str, current: int, inactive: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon 900\ninactive_file {inactive}\n")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/x\n0::/slice/unit\n")
    root = tmp_path / "cgroup"
    root.mkdir()
    monkeypatch.setattr(machine, "_OWN_GROUPS", own)
    monkeypatch.setattr(machine, "_CGROUP", root)
    return root


def test_free_memory_is_at_most_the_machine_s() -> None:
    assert 0 < machine.free_memory() <= psutil.virtual_memory().total


def test_a_container_s_limit_counts(groups: Path) -> None:
    # In a container its own group is the root, whatever the host calls it.
    _group(groups, "3000", 1500, 500)
    assert machine.free_memory() == 2_000
    _group(groups, "max", 1500, 500)
    assert machine.free_memory() > 2_000


def test_the_smallest_limit_of_a_group_and_those_above_counts(groups: Path) -> None:
    _group(groups / "slice" / "unit", "9000", 1000, 0)
    _group(groups / "slice", "4000", 3000, 0)
    assert machine.free_memory() == 1_000
    _group(groups / "slice" / "unit", "9000", 9500, 0)
    assert machine.free_memory() == 0


def test_free_disk_is_that_of_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    missing = tmp_path / "not" / "there"
    total = psutil.disk_usage(str(tmp_path)).total
    assert 0 < machine.free_disk(missing) <= total
    assert machine.same_disk(tmp_path, missing)
