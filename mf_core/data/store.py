"""Writing into the artifact store: what has its name is whole, and what dead writers left goes.

On a disk, a file or folder gets its name by a rename, when all of it is there. Until then it has a
temporary name, which says which process writes it: `.NAME.OWNER.RANDOM`. An object store has no
rename and needs none: an object appears when all of it has arrived.
"""

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from upath import UPath

# Without an owner: how releases up to 0.2.0 named them.
_TEMPORARY = re.compile(r"\..+?(\.(?P<owner>[0-9a-f]{16}-\d+-\d+))?\.[0-9a-f]{32}")
# No write goes on for so long without a change: a run may take 20 hours in all.
_LONGER_THAN_ANY_WRITE = timedelta(days=1)
# The place of `starttime` among what follows the command's name in /proc/PID/stat.
_START_TIME = 19


def is_disk(path: UPath) -> bool:
    """Say whether `path` lies on a disk of this machine or one that it has mounted."""
    return path.protocol in ("", "file", "local")


def write_file(path: UPath, data: bytes) -> None:
    """Write a file in one go: who reads it meanwhile finds the old content or the new one.

    Raises:
        OSError: the store can't be written to.
    """
    if not is_disk(path):
        path.write_bytes(data)
        return
    with temporary_beside(path) as temporary:
        temporary.write_bytes(data)
        os.replace(temporary.path, path.path)


@contextmanager
def temporary_beside(target: UPath) -> Iterator[UPath]:
    """Give a path beside `target` on a disk, to write to and to rename; what stays there goes."""
    temporary = target.parent / f".{target.name}.{_owner()}{uuid.uuid4().hex}"
    try:
        yield temporary
    finally:
        remove(temporary)


def remove(path: UPath) -> None:
    """Remove a file or a folder with all that it holds; one that is not there is fine.

    Raises:
        OSError: the store can't be written to.
    """
    # Somebody else may be removing it, too.
    with suppress(FileNotFoundError):
        if path.is_dir():
            path.rmdir(recursive=True)
        elif path.exists():
            path.unlink()


def sweep_temporaries(root: UPath) -> None:
    """Remove below `root` what writers left under temporary names, and nobody writes any more.

    That is what belongs to a process of this machine that is gone, and what has not changed for a
    day: the writer may live on another machine.
    """
    for folder, folders, files in root.fs.walk(root.path):
        for name in (*folders, *files):
            temporary = _TEMPORARY.fullmatch(name)
            if not temporary:
                continue
            path = root.with_segments(f"{folder}/{name}")
            # One that can't be removed is somebody else's to remove, or the next run's.
            with suppress(OSError):
                if _is_gone(temporary["owner"]) or is_abandoned(path):
                    remove(path)


def is_abandoned(path: UPath) -> bool:
    """Say whether a file, or all that a folder holds, has not changed for longer than writes take.

    Where the store can't tell, it may have.

    Raises:
        OSError: the store can't be read.
    """
    files = path.fs.find(path.path)
    # A folder in an object store has no time of its own. On a disk an empty one has.
    if not files and is_disk(path):
        files = [path.path]
    newest = datetime.now(UTC) - _LONGER_THAN_ANY_WRITE
    return bool(files) and all(path.fs.modified(file) < newest for file in files)


def _owner() -> str:
    """Return this process's name among all that ever ran anywhere, and a dot.

    Empty where the system tells no such thing.
    """
    pid = os.getpid()
    started = _start_of(pid)
    machine = _machine()
    return f"{machine}-{pid}-{started}." if machine and started else ""


def _machine() -> str | None:
    """Return what names this machine since its last start, and this container on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        numbers = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None
    return sha256(f"{boot.strip()} {numbers}".encode()).hexdigest()[:16]


def _start_of(pid: int) -> str | None:
    """Return when a process started, in ticks since the machine did; None if it can't be read."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command's name stands in brackets, and may hold some itself.
    return status.rpartition(")")[2].split()[_START_TIME]


def _is_gone(owner: str | None) -> bool:
    """Say whether the process of that name ran on this machine, and surely runs no more."""
    if not owner:
        return False
    machine, pid, started = owner.split("-")
    if machine != _machine():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    # Its number may be another process's by now.
    return _start_of(int(pid)) not in (None, started)
