"""Checkpoints of one head's fit: plain arrays and JSON, each one an artifact of its own, no pickle.

Three slots are written in turn, so that a process killed while it writes one leaves the newest and
the one before. A checkpoint of other work (another `fingerprint`) and a damaged one are passed
over: training then starts from another slot, or anew.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mf_core.data import store
from mf_core.data.artifacts import (
    npy_array,
    npy_bytes,
    read_file,
    read_unchecked_manifest,
    write_artifact,
)
from mf_core.errors import ArtifactError, TrainerKilledError

_NUMBERS = "numbers.json"
_N_SLOTS = 3


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds: the finished `iteration`, numbers by name, arrays by name."""

    iteration: int
    numbers: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


class Checkpoint:
    """The checkpoints of one head under `uri`."""

    def __init__(
        self,
        uri: str,
        head: str,
        fingerprint: str,
        every_seconds: float,
        log: Callable[[str], None],
        *,
        told_to_stop: Callable[[], bool] = lambda: False,
        read_only: bool = False,
    ) -> None:
        """`every_seconds` 0 means every iteration; `told_to_stop`: this iteration, and no other.

        With `read_only` another process writes them.
        """
        self._slots = [f"{uri}/{head}-{slot}" for slot in range(_N_SLOTS)]
        self._head = head
        self._fingerprint = fingerprint
        self._every_seconds = every_seconds
        self._log = log
        self._told_to_stop = told_to_stop
        self._read_only = read_only
        self._last = time.monotonic()
        self._next_slot = 0

    def is_due(self) -> bool:
        """Say whether it is time for the next one."""
        if self._read_only:
            return False
        return self._told_to_stop() or time.monotonic() - self._last >= self._every_seconds

    def save(
        self, iteration: int, numbers: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Write a checkpoint, unless another process writes them.

        Raises:
            TrainerKilledError: it is written, and the training has been told to stop.
            ArtifactStoreError: it can't be written.
        """
        if self._read_only:
            return
        files = {}
        for name, array in arrays.items():
            files[f"{name}.npy"] = npy_bytes(array)
        written = {"iteration": iteration, "numbers": dict(numbers)}
        files[_NUMBERS] = json.dumps(written).encode()

        metadata = {"kind": "checkpoint", "fingerprint": self._fingerprint}
        write_artifact(self._slots[self._next_slot], files, metadata)
        self._next_slot = (self._next_slot + 1) % _N_SLOTS
        self._last = time.monotonic()
        if self._told_to_stop():
            raise TrainerKilledError(
                f"the {self._head} head's training was told to stop (SIGTERM) and wrote a "
                f"checkpoint after iteration {iteration}; started again it goes on from there."
            )

    def load(self) -> Saved | None:
        """Return the newest whole checkpoint of this very work, None if there is none.

        Raises:
            ArtifactStoreError: the store can't be read.
        """
        newest: Saved | None = None
        for slot, uri in enumerate(self._slots):
            found = self._load(uri)
            if found and (newest is None or found.iteration > newest.iteration):
                newest = found
                self._next_slot = (slot + 1) % _N_SLOTS
        if newest:
            self._log(f"{self._head}: resuming after iteration {newest.iteration}")
        return newest

    def _load(self, uri: str) -> Saved | None:
        if not store.exists(store.store_path(uri)):
            return None
        try:
            # Nobody vouches for the manifest itself; the files, the numbers among them, are checked
            # against it.
            manifest = read_unchecked_manifest(uri)
            if manifest["fingerprint"] != self._fingerprint:
                self._log(f"{self._head}: ignoring a checkpoint of other work ({uri})")
                return None
            return _read(uri, manifest)
        except (ArtifactError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._log(f"{self._head}: ignoring a damaged checkpoint ({uri}): {error}")
            return None


def _read(uri: str, manifest: Mapping[str, Any]) -> Saved:
    """Return what lies at `uri`, each file checked against the manifest."""
    written = json.loads(read_file(uri, _NUMBERS, manifest))
    arrays = {}
    for file in manifest["files"]:
        if file != _NUMBERS:
            name = file.removesuffix(".npy")
            arrays[name] = npy_array(read_file(uri, file, manifest))
    return Saved(written["iteration"], written["numbers"], arrays)
