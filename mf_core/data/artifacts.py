"""Immutable, checksummed artifacts under a root that is any fsspec URI.

An artifact is a folder of plain arrays (`.npy`), Parquet files and one `manifest.json` that names
every file with its sha256. The artifact's own sha256 is that of its manifest, so one number vouches
for every byte. A folder without a manifest is not an artifact. Nothing is ever pickled.

Whoever writes an artifact reads what stands there already, every byte of it, and writes again what
is not as it should be, file by file. So running the step again is the cure for damage, and a whole
artifact is never taken away on the way.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from upath import UPath

from mf_core.data import store
from mf_core.errors import ArtifactError, ArtifactStoreError

MANIFEST = "manifest.json"
# Where artifacts lie below the root, and how many folders deep.
_DEPTHS = {"snapshots": 1, "models": 3, "checkpoints": 2}


def npy_bytes(array: NDArray[Any]) -> bytes:
    """Return `array` in NumPy's `.npy` format."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def npy_array(data: bytes) -> NDArray[Any]:
    """Return the array that `npy_bytes` wrote."""
    return np.load(io.BytesIO(data), allow_pickle=False)


def write_artifact(uri: str, files: Mapping[str, bytes], metadata: Mapping[str, Any]) -> str:
    """Write `files` and a manifest with `metadata` to the folder `uri`.

    Of an artifact that already stands at `uri`, those files are written that are missing, damaged
    or others (a step that was killed and runs again may rewrite its own output; names carry the
    run, so nobody else's is touched).

    Returns:
        The artifact's sha256.

    Raises:
        ArtifactStoreError: the store can't be written to.
    """
    manifest = _manifest(files, metadata)
    target = store.store_path(uri)
    # On a disk, what has an artifact's name was never half of one.
    anew = store.is_disk(target) and not store.exists(target)
    if not anew or not store.write_folder(target, {**files, MANIFEST: manifest}):
        _write_in_place(target, files, manifest)
    return hashlib.sha256(manifest).hexdigest()


def _manifest(files: Mapping[str, bytes], metadata: Mapping[str, Any]) -> bytes:
    """Return the manifest; the same content gives the same bytes."""
    checksums = {}
    for name, data in files.items():
        checksums[name] = hashlib.sha256(data).hexdigest()

    content = {**metadata, "files": checksums}
    return json.dumps(content, indent=1, sort_keys=True).encode()


def _write_in_place(target: UPath, files: Mapping[str, bytes], manifest: bytes) -> None:
    """Write those files of an artifact that are not there as they should be, the manifest last.

    Two that do so at once write the same bytes, and a reader finds each file damaged or whole.
    """
    # Another manifest is that of other content, of which no file is worth a look.
    same = _content(target / MANIFEST) == manifest
    for name, data in files.items():
        path = target / name
        if not same or _content(path) != data:
            store.write(path, data)
    if not same:
        store.write(target / MANIFEST, manifest)
    # Also of one who was killed before he came so far.
    _remove_others(target, {*files, MANIFEST})


def _content(path: UPath) -> bytes | None:
    """Return what a file holds; None where it has to be written (again)."""
    try:
        return store.read(path)
    except ArtifactStoreError:
        # What a disk can't read, it may still replace.
        if store.is_disk(path):
            return None
        raise


def _remove_others(target: UPath, names: set[str]) -> None:
    """Remove what is none of the artifact's files, but for temporary names: `sweep` knows those."""
    for name in store.names_in(target):
        if name not in names and not name.startswith("."):
            store.remove(target / name)


def sweep(root: str) -> None:
    """Remove what writers that were killed have left in the artifact store at `root`.

    What a living process may be writing stays, be it on another machine.

    Raises:
        ArtifactStoreError: the store can't be listed.
    """
    top = store.store_path(root)
    for folder, depth in _DEPTHS.items():
        names = store.sweep_temporaries(top / folder)
        # In an object store, an artifact without a manifest is one whose writer never came so far.
        if store.is_disk(top):
            continue
        for artifact in _unfinished(names, depth):
            with suppress(ArtifactStoreError):
                if store.is_abandoned(top / folder / artifact):
                    store.remove(top / folder / artifact)


def _unfinished(names: list[str], depth: int) -> list[str]:
    """Return the artifacts, so many folders deep, that have files among `names` and no manifest."""
    found = set()
    finished = set()
    for name in names:
        if name.count("/") != depth:
            continue
        artifact, _, file = name.rpartition("/")
        found.add(artifact)
        if file == MANIFEST:
            finished.add(artifact)
    return sorted(found - finished)


def read_manifest(uri: str, sha256: str) -> dict[str, Any]:
    """Return the manifest of the artifact at `uri`, checked against `sha256`.

    Raises:
        ArtifactError: it is missing, or is not the one that was written.
        ArtifactStoreError: the store can't be read.
    """
    data = _read(uri, MANIFEST)
    _check(f"{uri}/{MANIFEST}", data, sha256)
    manifest: dict[str, Any] = json.loads(data)
    return manifest


def read_unchecked_manifest(uri: str) -> dict[str, Any]:
    """Return the manifest of an artifact whose sha256 nobody has put on record.

    Raises:
        ArtifactError: it is missing.
        ValueError: it is no JSON.
        ArtifactStoreError: the store can't be read.
    """
    manifest: dict[str, Any] = json.loads(_read(uri, MANIFEST))
    return manifest


def read_file(uri: str, name: str, manifest: Mapping[str, Any]) -> bytes:
    """Return the file `name` of the artifact at `uri`, checked against its `manifest`.

    Raises as `read_manifest` does.
    """
    data = _read(uri, name)
    _check(f"{uri}/{name}", data, manifest["files"][name])
    return data


def check_artifact(uri: str, sha256: str) -> None:
    """Make sure that the artifact at `uri` is whole: each of its files is read.

    That is what a step pays that finds its output there. Of 20 million ratings by 140,000 users, a
    snapshot has .1 GB, and both heads with 16 kept samples .5 GB: half a second on a disk, seconds
    in an object store.

    Raises as `read_manifest` does.
    """
    manifest = read_manifest(uri, sha256)
    for name in manifest["files"]:
        read_file(uri, name, manifest)


def remove_artifact(uri: str) -> None:
    """Remove the folder `uri`; one that is not there is fine. Raises ArtifactStoreError."""
    # Without its manifest it is no artifact any more, should the rest stay.
    store.remove(store.store_path(uri), first=MANIFEST)


def _read(uri: str, name: str) -> bytes:
    path = store.store_path(uri) / name
    data = store.read(path)
    if data is None:
        raise ArtifactError(
            f"expected the artifact file {path}, but it is not there; "
            "run the step that writes it again."
        )
    return data


def _check(name: str, data: bytes, expected: str) -> None:
    """Raise ArtifactError if `data` does not have the `expected` checksum."""
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise ArtifactError(
            f"the artifact file {name} has sha256 {actual[:12]}, expected {expected[:12]}: "
            "it was changed or damaged after it was written. "
            "Run the step that writes it again; see docs/runbook.md#artifacts."
        )
