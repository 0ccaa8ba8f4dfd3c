"""Temporary folders: gone at the end, and after a kill gone with the next one."""

import os
import signal
import tempfile
from pathlib import Path

import pytest

from mf_core.scratch import scratch_folder


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def _killed_owner(prefix: str) -> Path:
    """Return the folder of a process that was killed while it had one."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with scratch_folder(prefix) as folder:
            (folder / "spool").write_bytes(b"1" * 1000)
            os.write(writer, str(folder).encode())
            signal.pause()
    folder = Path(os.read(reader, 4096).decode())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    return folder


def test_the_folder_is_empty_and_goes_with_the_block() -> None:
    with scratch_folder("mf-test") as folder:
        assert list(folder.iterdir()) == []
        (folder / "file").write_text("x")
    assert not folder.exists()


def test_what_a_killed_process_left_goes_with_the_next_folder(tmp_path: Path) -> None:
    left = _killed_owner("mf-test")
    assert left.exists()
    with scratch_folder("mf-test"):
        assert not left.exists()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_living_process_and_of_another_kind_stay(tmp_path: Path) -> None:
    other = _killed_owner("mf-other")
    with scratch_folder("mf-test") as first, scratch_folder("mf-test"):
        assert first.exists()
    assert list(tmp_path.iterdir()) == [other]


def test_a_link_is_never_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (tmp_path / "mf-test-link").symlink_to(precious)
    with scratch_folder("mf-test"):
        assert precious.exists()
