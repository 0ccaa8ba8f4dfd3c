"""One training at a time: two on one GPU would share its memory, and both fail."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mf_core.errors import TrainingError


def lock_path() -> Path:
    """Return the file whose lock a training holds: MF_GPU_LOCK, or one per user."""
    per_user = Path(tempfile.gettempdir()) / f"mf-train-{os.getuid()}.lock"
    return Path(os.environ.get("MF_GPU_LOCK") or per_user)


@contextmanager
def training_lock(path: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock on `path`, so that two trainings never share the GPU; wait for another one.

    The kernel releases it when the process ends, however it ends.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise TrainingError(
            f"the lock file {path} can't be opened ({error.strerror}); "
            "set MF_GPU_LOCK to another path."
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log(f"waiting for another training to end (lock {path})")
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(file)
