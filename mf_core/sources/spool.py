"""The folder where what is fetched and unpacked lies while a source is open, and how much fits."""

import errno
import hashlib
import itertools
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

from mf_core.deployment import Limits
from mf_core.errors import InputError, RetryableError, ScratchFullError
from mf_core.sources.known import Known

_COPY_BYTES = 1 << 20
# In small pieces, so that a link that is slow and well brings one in time.
_REMOTE_COPY_BYTES = 1 << 16
_LONGEST_NAME = 80
# Below this size a ratio says nothing: a short table of one user packs very well.
_SMALLEST_BOMB_BYTES = 64 << 20
_MIB = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_Result = TypeVar("_Result")


class SourceUnavailableError(InputError, RetryableError):
    """A remote source did not answer; it may do so later."""


class TooLargeError(InputError):
    """A source is larger than the limits allow; who opened it adds its name."""


class SilentError(SourceUnavailableError):
    """A remote source sends nothing; who opened it adds its name."""


class Spool:
    """The folder of one source; it counts what is written to it.

    `known` is what need not be fetched.
    """

    def __init__(self, folder: Path, limits: Limits, known: Known | None = None) -> None:
        self.folder = folder
        self.limits = limits
        self.known = known or Known()
        self._written = 0
        self._numbers = itertools.count()

    def new_path(self, name: str) -> Path:
        """Return a path that is free and ends like `name`, which is never trusted."""
        number = next(self._numbers)
        # Only the last part of the name, without anything that could lead out of the folder.
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", PurePosixPath(name).name)
        return self.folder / f"{number:04d}-{safe[-_LONGEST_NAME:]}"

    def fetch(self, reader: IO[bytes] | Any, target: Path) -> str:
        """Copy a remote file to `target` and return its sha256.

        Raises:
            TooLargeError: it is larger than the limit.
            SilentError: nothing came for `limits.stall_seconds`.
            ScratchFullError: the temporary folder is full.
        """

        def read() -> bytes:
            """Return the next piece, if it comes in time."""
            return within(self.limits.stall_seconds, lambda: reader.read(_REMOTE_COPY_BYTES))

        return self._copy(read, target)

    def unpack(self, reader: IO[bytes] | Any, target: Path, packed_bytes: int) -> str:
        """Copy a local file, unpacked by `reader`, to `target` and return its sha256.

        Raises:
            TooLargeError: it is larger than the limits allow for one of `packed_bytes`.
            ScratchFullError: the temporary folder is full.
        """
        ratio_limit = int(max(packed_bytes * self.limits.max_ratio, _SMALLEST_BOMB_BYTES))
        return self._copy(lambda: reader.read(_COPY_BYTES), target, ratio_limit)

    def count(self, n_bytes: int) -> None:
        """Take note of bytes that were read of the source. Raises TooLargeError at the limit."""
        self._written += n_bytes
        if self._written > self.limits.max_bytes:
            raise TooLargeError(
                f"expected a source of at most {self.limits.max_gib:g} GiB (fetched and unpacked), "
                "got more. The operator may raise limits.max_gib in the settings file (MF_CONFIG)."
            )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Say what a full disk is in the block, where nothing else than the folder is written to.

        Raises:
            ScratchFullError: the temporary folder is full.
        """
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise ScratchFullError(full(self.folder, error)) from None

    def _copy(self, read: Callable[[], bytes], target: Path, ratio_limit: int | None = None) -> str:
        digest = hashlib.sha256()
        written = 0
        # Without a buffer, so that a full disk shows where it is written to and not at the close.
        with target.open("wb", buffering=0) as writer:
            while block := read():
                digest.update(block)
                self.count(len(block))
                written += len(block)
                if ratio_limit is not None and written > ratio_limit:
                    raise TooLargeError(_too_dense(self.limits.max_ratio))
                with self.writing():
                    write_all(writer, block)
        return digest.hexdigest()


def within(seconds: float, call: Callable[[], _Result]) -> _Result:
    """Return what `call` returns, if it does so within `seconds`.

    The thread of a call that hangs is left behind; it ends with the process.

    Raises:
        SilentError: it took longer.
    """
    outcome: list[_Result] = []
    failure: list[BaseException] = []

    def run() -> None:
        """Keep what the call returns or raises."""
        try:
            outcome.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="mf-source", daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not outcome:
        raise SilentError(
            f"nothing came for {seconds:g} s (limits.stall_seconds). Check the store."
        )
    return outcome[0]


def full(folder: Path, error: OSError) -> str:
    """Return what to say of a temporary folder that is full, or is none."""
    what = "is full" if error.errno in _FULL else "can't be written to"
    return (
        f"the temporary folder {folder} {what} ({error.strerror}; {_free(folder)} free now): "
        "nothing was loaded. Make room there, or name a larger folder in TMPDIR."
    )


def _free(folder: Path) -> str:
    """Return how much room a folder's disk has, in words."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return "an unknown number of MiB are"
    return f"{free // _MIB:,} MiB are"


def _too_dense(max_ratio: float) -> str:
    return (
        f"expected a file that is unpacked at most {max_ratio:g} times as large as packed, got "
        "more: it may be made to fill the disk. The operator may raise limits.max_ratio in the "
        "settings file (MF_CONFIG)."
    )


def write_all(writer: Any, block: bytes) -> None:
    """Write all of `block`; a file without a buffer may take a part of it at a time."""
    rest = memoryview(block)
    while rest:
        rest = rest[writer.write(rest) :]
