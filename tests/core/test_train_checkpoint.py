"""Checkpoints: the newest whole one of this very work is loaded, anything else is passed over."""

from pathlib import Path

import numpy as np
import pytest

from mf_core.solvers.checkpoint import Checkpoint


def open_checkpoint(
    folder: Path, lines: list[str], fingerprint: str = "a", every_seconds: float = 0
) -> Checkpoint:
    """Return the checkpoint of a rating head whose messages go to `lines`."""
    return Checkpoint(
        str(folder),
        "rating",
        fingerprint,
        every_seconds,
        lines.append,
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with the checkpoints of iterations 4, 5 and, in the first slot, 6."""
    checkpoint = open_checkpoint(tmp_path, [])

    for iteration in (3, 4, 5, 6):
        numbers = {"done": iteration, "best": None}
        arrays = {"x": np.full(3, iteration, np.float32)}
        checkpoint.save(iteration, numbers, arrays)

    return tmp_path


def test_the_newest_checkpoint_is_loaded_bit_for_bit(saved: Path) -> None:
    lines: list[str] = []
    loaded = open_checkpoint(saved, lines).load()
    expected = np.full(3, 6, np.float32)

    assert loaded is not None
    assert loaded.iteration == 6
    assert loaded.numbers == {"done": 6, "best": None}
    assert loaded.arrays["x"].tobytes() == expected.tobytes()
    assert lines == ["rating: resuming after iteration 6"]


def test_nothing_is_loaded_where_nothing_was_saved(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tmp_path, [])

    assert checkpoint.load() is None


def test_a_checkpoint_of_other_work_is_passed_over(saved: Path) -> None:
    lines: list[str] = []
    checkpoint = open_checkpoint(saved, lines, fingerprint="b")

    assert checkpoint.load() is None
    assert all("ignoring a checkpoint of other work" in line for line in lines)


@pytest.mark.parametrize("name", ["x.npy", "numbers.json", "manifest.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]", b"\x93NUMPY"])
def test_a_damaged_checkpoint_is_passed_over_and_the_one_before_is_used(
    saved: Path, name: str, content: bytes | None
) -> None:
    newest = saved / "rating-0" / name
    if content is None:
        newest.unlink()
    else:
        newest.write_bytes(content)

    lines: list[str] = []
    loaded = open_checkpoint(saved, lines).load()

    assert loaded is not None
    assert loaded.iteration == 5
    assert lines[-1] == "rating: resuming after iteration 5"
    assert "ignoring a damaged checkpoint" in lines[0]


def test_a_save_takes_the_place_of_the_oldest(saved: Path) -> None:
    checkpoint = open_checkpoint(saved, [])
    checkpoint.load()
    checkpoint.save(7, {}, {"x": np.zeros(1)})

    # As a process leaves it that is killed while it saves iteration 8.
    (saved / "rating-2" / "x.npy").unlink()
    for slot, iteration in (("rating-1", 7), ("rating-0", 6)):
        newest = open_checkpoint(saved, []).load()
        assert newest is not None
        assert newest.iteration == iteration
        (saved / slot / "x.npy").unlink()


def test_a_checkpoint_is_due_after_its_seconds(tmp_path: Path) -> None:
    at_once = open_checkpoint(tmp_path, [], every_seconds=0)
    hourly = open_checkpoint(tmp_path, [], every_seconds=3_600)

    assert at_once.is_due()
    assert not hourly.is_due()
