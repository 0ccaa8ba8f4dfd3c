"""Temporary folders that go when their process does, however it ends."""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Give an empty folder in the temporary folder, and remove it at the end of the block.

    A process that is killed leaves its folder behind. The kernel gives the lock on it back, so the
    next call with the same `prefix` knows that nobody works there any more, and removes it.

    Raises:
        OSError: the temporary folder can't be written to.
    """
    _sweep(prefix)
    folder, lock = _make(prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make(prefix: str) -> tuple[Path, int]:
    """Return a new folder, and the descriptor that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
        # A sweep may come between any two of these lines, and take the folder away.
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def _sweep(prefix: str) -> None:
    """Remove the folders of processes that are gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}-*"):
        try:
            _remove_if_free(folder)
        except OSError:
            # Gone meanwhile, or somebody else's: not ours to remove.
            continue


def _remove_if_free(folder: Path) -> None:
    """Remove `folder` if nobody holds its lock. Raises OSError if it is not our folder."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(lock)
        if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
            return
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
