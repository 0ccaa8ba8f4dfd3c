"""Immutable, checksummed artifacts under a root that is any fsspec URI.

An artifact is a folder of plain arrays (`.npy`), Parquet files and one `manifest.json` that names
every file with its sha256. The artifact's own sha256 is that of its manifest, so one number vouches
for every byte. It is written under a temporary name and renamed; a folder without a manifest is not
an artifact. Nothing is ever pickled.
"""

import hashlib
import io
import json
import os
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from upath import UPath

from mf_core.errors import ArtifactError, ArtifactStoreError

MANIFEST = "manifest.json"
_LEFT_OVER_SECONDS = 3_600.0


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

    An artifact that already stands at `uri` is left as it is if it has the same content, and
    replaced otherwise (a step that was killed and runs again may rewrite its own output; names
    carry the run, so nobody else's is touched).

    Returns:
        The artifact's sha256.

    Raises:
        ArtifactStoreError: the store can't be written to.
    """
    manifest = _manifest(files, metadata)
    try:
        _write(UPath(uri), files, manifest)
    except OSError as error:
        raise ArtifactStoreError(
            f"the artifact {uri} could not be written: {error}. "
            "Check the store and MF_ARTIFACT_ROOT."
        ) from error
    return hashlib.sha256(manifest).hexdigest()


def _manifest(files: Mapping[str, bytes], metadata: Mapping[str, Any]) -> bytes:
    """Return the manifest; the same content gives the same bytes."""
    checksums = {}
    for name, data in files.items():
        checksums[name] = hashlib.sha256(data).hexdigest()

    content = {**metadata, "files": checksums}
    return json.dumps(content, indent=1, sort_keys=True).encode()


def _write(target: UPath, files: Mapping[str, bytes], manifest: bytes) -> None:
    if _holds(target, manifest):
        return
    _remove_left_overs(target)

    # Readers never see half an artifact: it gets its name when all of it is there.
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}"
    temporary.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (temporary / name).write_bytes(data)
    (temporary / MANIFEST).write_bytes(manifest)

    # Asked again: a run beside this one may have written the same artifact meanwhile.
    if target.exists() and not _holds(target, manifest):
        target.rmdir(recursive=True)
    _move(temporary, target, manifest)


def _holds(target: UPath, manifest: bytes) -> bool:
    """Return whether the artifact with that manifest stands at `target`."""
    path = target / MANIFEST
    return path.exists() and path.read_bytes() == manifest


def _move(temporary: UPath, target: UPath, manifest: bytes) -> None:
    """Rename `temporary`; drop it if a run beside this one has just written the same artifact."""
    try:
        if target.protocol in ("", "file", "local"):
            # Atomic, and refuses a folder that holds something.
            os.rename(temporary.path, target.path)
        elif not _holds(target, manifest):
            target.fs.mv(temporary.path, target.path, recursive=True)
    except OSError:
        if not _holds(target, manifest):
            raise

    if temporary.exists():
        temporary.rmdir(recursive=True)


def _remove_left_overs(target: UPath) -> None:
    """Remove what a process that was killed while it wrote has left."""
    # Somebody may still be writing what is younger.
    newest = time.time() - _LEFT_OVER_SECONDS
    for left_over in target.parent.glob(f".{target.name}.*"):
        # Its writer may just have renamed it.
        with suppress(FileNotFoundError):
            if left_over.stat().st_mtime < newest:
                left_over.rmdir(recursive=True)


def read_manifest(uri: str, sha256: str) -> dict[str, Any]:
    """Return the manifest of the artifact at `uri`, checked against `sha256`.

    Raises:
        ArtifactError: it is missing, or is not the one that was written.
        ArtifactStoreError: the store can't be read.
    """
    data = _read(UPath(uri) / MANIFEST)
    _check(f"{uri}/{MANIFEST}", data, sha256)
    manifest: dict[str, Any] = json.loads(data)
    return manifest


def read_file(uri: str, name: str, manifest: Mapping[str, Any]) -> bytes:
    """Return the file `name` of the artifact at `uri`, checked against its `manifest`.

    Raises as `read_manifest` does.
    """
    data = _read(UPath(uri) / name)
    _check(f"{uri}/{name}", data, manifest["files"][name])
    return data


def remove_artifact(uri: str) -> None:
    """Remove the folder `uri`; one that is not there is fine."""
    path = UPath(uri)
    if path.exists():
        path.rmdir(recursive=True)


def _read(path: UPath) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(
            f"expected the artifact file {path}, but it is not there; "
            "run the step that writes it again."
        ) from None
    except OSError as error:
        raise ArtifactStoreError(
            f"the artifact file {path} could not be read: {error}. "
            "Check the store and MF_ARTIFACT_ROOT."
        ) from error


def _check(name: str, data: bytes, expected: str) -> None:
    """Raise ArtifactError if `data` does not have the `expected` checksum."""
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise ArtifactError(
            f"the artifact file {name} has sha256 {actual[:12]}, expected {expected[:12]}: "
            "it was changed or damaged after it was written. "
            "Run the step that writes it again; see docs/runbook.md#artifacts."
        )
