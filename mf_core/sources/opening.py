"""Opening local files: regular ones only, and only where the permit says so.

What was judged is what is read: a file is judged by what its descriptor says, and read through
that descriptor, so that nobody can put another one in its place between the two. That takes Linux.
On other systems the file is read by its real path, and refused afterwards if it is another one by
then.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mf_core.errors import InputError
from mf_core.sources.reach import Permit

# A FIFO without a writer, or a terminal, must not hold the opener.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# A file opened by such a path is the very file of the descriptor, read from its beginning.
_DESCRIPTORS = Path("/proc/self/fd")
_LONGEST_PATH = 1024
_KINDS = {
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


@dataclass(frozen=True)
class Identity:
    """Which file it is, whatever its name, and in what state.

    Attributes:
        device: where it lies.
        inode: which one it is there.
        size: its size in bytes.
        changed_ns: when it was written to, in nanoseconds since 1970.
    """

    device: int
    inode: int
    size: int
    changed_ns: int


@contextmanager
def opened(path: Path, permit: Permit, expected: Identity | None = None) -> Iterator[Path]:
    """Give a path that leads to the regular file at `path`, and to no other, within the block.

    Raises:
        InputError: it is no regular file, or not the `expected` one any more.
        ConfigError: it lies where the permit does not reach.
        OSError: it can't be opened.
    """
    # Looked at first, since to open a device may do something already.
    _require_regular(os.stat(path), path)
    descriptor = os.open(path, _FLAGS)
    try:
        status = os.fstat(descriptor)
        _require_regular(status, path)
        real_path = _real_path(descriptor, path)
        permit.judge_real_path(real_path, shown=path)
        identity = _identity(status)
        if expected not in (None, identity):
            raise _changed(path)
        if _DESCRIPTORS.exists():
            yield _DESCRIPTORS / str(descriptor)
            return
        yield Path(real_path)
        if identity_of(Path(real_path)) != identity:
            raise _changed(path)
    finally:
        os.close(descriptor)


def names_in(folder: Path, permit: Permit) -> tuple[list[str], list[str]]:
    """Return the names of the files and those of the folders in a folder; links are followed.

    Raises:
        ConfigError: the folder lies where the permit does not reach.
        OSError: it can't be listed.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        permit.judge_real_path(_real_path(descriptor, folder), shown=folder)
        files, folders = [], []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if entry.is_file():
                    files.append(entry.name)
                elif entry.is_dir():
                    folders.append(entry.name)
        return files, folders
    finally:
        os.close(descriptor)


def identity_of(path: Path) -> Identity:
    """Return which file `path` leads to."""
    return _identity(os.stat(path))


def refuse_special(path: Path) -> None:
    """Make sure that a local file that a library will open is neither device, pipe nor socket.

    Raises:
        InputError: it is one of these.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        # What is not there, the library says in its own words.
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise _not_regular(path, mode)


def _require_regular(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _not_regular(path, status.st_mode)


def _not_regular(path: Path, mode: int) -> InputError:
    kind = _KINDS.get(stat.S_IFMT(mode), "something else")
    return InputError(
        f"{path}: expected a regular file, got {kind}. Write its content to a file, and name that."
    )


def _changed(path: Path) -> InputError:
    return InputError(f"{path.name}: changed while it was read. Load it again once it is complete.")


def _real_path(descriptor: int, path: Path) -> str:
    """Return where an open file really lies, with all links followed; `path` opened it."""
    if _DESCRIPTORS.exists():
        return os.readlink(_DESCRIPTORS / str(descriptor))
    # As macOS has it.
    if get_path := getattr(fcntl, "F_GETPATH", None):
        found = fcntl.fcntl(descriptor, get_path, bytes(_LONGEST_PATH))
        return os.fsdecode(found.rstrip(b"\0"))
    return os.path.realpath(path)


def _identity(status: os.stat_result) -> Identity:
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
