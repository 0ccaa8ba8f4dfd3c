"""What the machine, or the container on it, still has of memory and disk."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def free_memory() -> int:
    """Return the bytes of memory that this process can still get.

    That is the machine's, or what its control group or one above it allows if that is less.
    """
    free: int = psutil.virtual_memory().available
    for folder in _control_groups():
        allowed = _left_in(folder)
        if allowed is not None:
            free = min(free, allowed)
    return max(0, free)


def _control_groups() -> Iterator[Path]:
    """Yield the folders of this process's control group and of those above it (version 2)."""
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:  # another system than Linux
        lines = []
    own = next((line[len("0::/") :] for line in lines if line.startswith("0::/")), "")

    # Within a container the path may be the host's, which is not there: its own group is the root.
    folder = _CGROUP / own
    while folder != _CGROUP:
        yield folder
        folder = folder.parent
    yield _CGROUP


def _left_in(folder: Path) -> int | None:
    """Return what a control group still allows in bytes; None where it sets no limit."""
    try:
        limit = int((folder / "memory.max").read_text())
        current = int((folder / "memory.current").read_text())
        statistics = (folder / "memory.stat").read_text().splitlines()
        values = dict(line.split() for line in statistics)
        # The kernel gives pages of files that nobody uses back on demand.
        return limit - (current - int(values["inactive_file"]))
    except (OSError, ValueError, KeyError):
        return None


def free_disk(folder: Path) -> int:
    """Return the bytes free on the disk of a folder, which need not be there yet."""
    return shutil.disk_usage(_existing(folder)).free


def same_disk(one: Path, other: Path) -> bool:
    """Say whether two folders, which need not be there yet, lie on one disk."""
    return _existing(one).stat().st_dev == _existing(other).stat().st_dev


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    while not folder.exists():
        folder = folder.parent
    return folder
