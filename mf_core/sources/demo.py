"""MovieLens 100K for the demo: downloaded, checked and cached.

It may not be redistributed, so no copy is shipped.
"""

import hashlib
import io
import subprocess
import sys
import urllib.request
import uuid
import zipfile
from pathlib import Path

from mf_core.errors import InputError
from mf_core.scratch import scratch_folder

U_DATA_SHA256 = "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"
ML100K_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
_ARCHIVE_FILES = ("u.data", "u.item", "u.user")
_CONNECT_SECONDS = 5
_PIP_SECONDS = 300
# The same 100,000 rows travel in this PyPI package, for machines that reach a package index and
# nothing else.
_PACKAGE = "recbole==1.2.1"
_PACKAGE_FOLDER = "recbole/dataset_example/ml-100k"
_PACKAGE_RATINGS = "ml-100k.inter"
_PACKAGE_FILES = (_PACKAGE_RATINGS, "ml-100k.item", "ml-100k.user")
# What goes wrong where a download is not to be had, or holds something else.
_NO_ARCHIVE = (OSError, zipfile.BadZipFile, KeyError)
_NO_PACKAGE = (*_NO_ARCHIVE, subprocess.SubprocessError)


def fetch_ml100k(cache_dir: Path) -> Path:
    """Return a folder with u.data and the metadata of MovieLens 100K.

    It is downloaded if `cache_dir` does not hold it yet. The archive comes from GroupLens; where
    that can't be reached, the same rows come from the PyPI package recbole.

    Raises:
        InputError: neither can be had, or what came is not MovieLens 100K.
    """
    folder = cache_dir / "ml-100k"
    if _is_complete(folder):
        return folder
    return _store(_download(), folder)


def _is_complete(folder: Path) -> bool:
    """Return whether the ratings are there; they are the last file that is written."""
    file = folder / "u.data"
    if not file.is_file():
        return False
    return _sha256(file.read_bytes()) == U_DATA_SHA256


def _sha256(data: bytes) -> str:
    """Return the checksum in the form in which it is published."""
    return hashlib.sha256(data).hexdigest()


def _download() -> dict[str, bytes]:
    """Return the files by name from the first place that has them."""
    try:
        return _from_grouplens()
    except _NO_ARCHIVE as error:
        no_archive = error

    try:
        return _from_package()
    except _NO_PACKAGE as no_package:
        raise InputError(
            f"MovieLens 100K can't be downloaded: {ML100K_URL} ({no_archive}), "
            f"{_PACKAGE} from the package index ({no_package}). "
            "Put the archive somewhere yourself and name it in source.uri."
        ) from None


def _from_grouplens() -> dict[str, bytes]:
    """Return the files by name from the archive of those who published the data."""
    with urllib.request.urlopen(ML100K_URL, timeout=_CONNECT_SECONDS) as response:
        content = response.read()

    archive = zipfile.ZipFile(io.BytesIO(content))
    return {name: archive.read(f"ml-100k/{name}") for name in _ARCHIVE_FILES}


def _from_package() -> dict[str, bytes]:
    """Return the files by name from the package that carries them as an example."""
    with scratch_folder("mf-download") as folder:
        # A wheel only: building a source package would run its code.
        options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
        command = [sys.executable, "-m", "pip", "download", *options, _PACKAGE]
        subprocess.run(command, check=True, capture_output=True, timeout=_PIP_SECONDS)

        wheel = next(folder.glob("*.whl"), folder)
        archive = zipfile.ZipFile(wheel)
        files = {name: archive.read(f"{_PACKAGE_FOLDER}/{name}") for name in _PACKAGE_FILES}

    # Row for row u.data, after a header and without the last line end.
    rows = files.pop(_PACKAGE_RATINGS).partition(b"\n")[2]
    return {"u.data": rows.rstrip(b"\n") + b"\n", **files}


def _store(files: dict[str, bytes], folder: Path) -> Path:
    """Write the files to `folder` if they are the published ones, and return it."""
    found = _sha256(files["u.data"])
    if found != U_DATA_SHA256:
        raise InputError(
            f"expected u.data with sha256 {U_DATA_SHA256[:12]}, the download has {found[:12]}. "
            "Try again later."
        )

    folder.mkdir(parents=True, exist_ok=True)
    # u.data comes last: it is what marks the folder as complete.
    for name in sorted(files, key=lambda name: name == "u.data"):
        # Renamed when it is whole, since a run beside this one may look for it.
        temporary = folder / f".{name}.{uuid.uuid4().hex}"
        temporary.write_bytes(files[name])
        temporary.rename(folder / name)
    return folder
