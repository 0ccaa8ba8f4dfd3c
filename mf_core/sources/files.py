"""From a path or URI to local files: folders, zips, gz and remote objects, hashed on the way."""

import gzip
import hashlib
import re
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from upath import UPath

from mf_core.errors import InputError, RetryableError
from mf_core.sources.formats import (
    GZIP,
    ZIP,
    choose_ratings,
    companions,
    expected_files,
    unpacked_name,
)

_COPY_BYTES = 1 << 20
_WEB_SECONDS = 60
_LOCAL_PROTOCOLS = ("", "file", "local")
_GONE_STATUSES = (404, 410)
_ENCRYPTED_FLAG = 1
_LISTED_NAMES = 10
_MACOS_SHADOWS = "__MACOSX/"
_HIDDEN = (".", "_")
_LONGEST_NAME = 80
_BROKEN_ARCHIVE = (
    EOFError,
    gzip.BadGzipFile,
    zlib.error,
    zipfile.BadZipFile,
    NotImplementedError,
)

Loader = Callable[[], "LocalFile"]


class SourceUnavailableError(InputError, RetryableError):
    """A remote source did not answer; it may do so later."""


@dataclass(frozen=True)
class LocalFile:
    """A file that can be read here.

    Attributes:
        path: where it is.
        name: its name without .gz, for messages and for what depends on the name.
        sha256: the checksum of its (unpacked) content.
        packed_sha256: the checksum of the file that it came in.
    """

    path: Path
    name: str
    sha256: str
    packed_sha256: str


@dataclass(frozen=True)
class FoundFiles:
    """What a URI leads to.

    Attributes:
        ratings: the files of ratings; more than one are the parts of a Parquet folder.
        items: reads the file of items on demand, None if there is none.
        users: likewise for the users.
    """

    ratings: tuple[LocalFile, ...]
    items: Loader | None
    users: Loader | None


def redacted(uri: str) -> str:
    """Return `uri` without user name and password."""
    return re.sub(r"://[^/@]*@", "://***@", uri)


def find_files(uri: str, spool: Path) -> FoundFiles:
    """Return the local files behind `uri`: a file, a folder, a zip or a gz.

    What is not a plain local file is put in the folder `spool`.

    Raises:
        InputError: nothing is there, or it is truncated or damaged, or holds no ratings.
        SourceUnavailableError: a remote store did not answer.
    """
    place = _locate(uri)
    with _explained(uri, place):
        if place.is_dir():
            return _in_folder(place, spool, uri)

        file = _local(place, place.name or "ratings", spool)
        # A zip without its end is one too: it is refused as damaged, not read as text.
        if zipfile.is_zipfile(file.path) or _starts_with(file.path, ZIP.magic):
            return _in_zip(file, spool, uri)

        items, users = companions(file.name)
        return FoundFiles(
            ratings=(file,),
            items=_beside(place, items, spool),
            users=_beside(place, users, spool),
        )


def find_file(uri: str, spool: Path) -> LocalFile:
    """Return the one local file behind `uri` (metadata, a second file).

    Raises:
        InputError: nothing is there, or it is truncated or damaged.
        SourceUnavailableError: a remote store did not answer.
    """
    place = _locate(uri)
    with _explained(uri, place):
        return _local(place, place.name, spool)


@dataclass(frozen=True)
class _WebFile:
    """A file behind http or https, read with what Python ships (fsspec would need aiohttp)."""

    uri: str

    @property
    def name(self) -> str:
        """Return the file's name, without the address and the query."""
        path = unquote(urlsplit(self.uri).path)
        return PurePosixPath(path).name

    def is_dir(self) -> bool:
        """Return False: the web has no folders that could be listed."""
        return False

    @contextmanager
    def open(self, _: str) -> Iterator[Any]:
        """Open the file for reading."""
        try:
            with urllib.request.urlopen(self.uri, timeout=_WEB_SECONDS) as response:
                yield response
                # urllib takes a connection that breaks off for the end of the file.
                if response.length:
                    raise ConnectionError(f"the connection ended {response.length:,} bytes early")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _GONE_STATUSES:
                raise FileNotFoundError(self.uri) from None
            raise


def _locate(uri: str) -> Any:
    if re.match(r"https?://", uri):
        return _WebFile(uri)
    try:
        place = UPath(uri)
        if place.protocol in _LOCAL_PROTOCOLS:
            return Path(place.path).expanduser()
        return place
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{redacted(uri)}: expected a path or a URI that fsspec can open, but {error}. "
            "Install its package."
        ) from None


@contextmanager
def _explained(uri: str, place: Any) -> Iterator[None]:
    """Turn whatever goes wrong with `uri` in the block into an error in words."""
    shown = redacted(uri)
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"{shown}: expected a URI that this installation can open, but: {error}. "
            "Install the package that is missing."
        ) from None
    except FileNotFoundError:
        raise InputError(
            f"{shown}: expected a file or folder, but nothing is there. Check source.uri."
        ) from None
    except (PermissionError, IsADirectoryError) as error:
        raise InputError(
            f"{shown}: expected a readable file, but {error.strerror or error}. "
            "Check the path and its rights."
        ) from None
    except _BROKEN_ARCHIVE as error:
        kind = "zip" if shown.endswith(ZIP.suffix) else "archive"
        raise InputError(
            f"{shown}: expected a whole {kind}, but it is truncated or damaged ({error}). "
            "Fetch it again."
        ) from None
    except OSError as error:
        # A disk that fails here will fail again; a store that did not answer may answer later.
        failure = InputError if isinstance(place, Path) else SourceUnavailableError
        raise failure(
            f"{shown}: could not be read: {redacted(str(error))}. Check source.uri and the store."
        ) from error


def _local(place: Any, name: str, spool: Path) -> LocalFile:
    """Return `place` as a local, unpacked file."""
    if isinstance(place, Path):
        path = place
        sha256 = _hash(place)
    else:
        path = _new_path(spool, name)
        with place.open("rb") as reader:
            sha256 = _copy(reader, path)

    # The content says whether it is packed; a name may be wrong or missing.
    if not _starts_with(path, GZIP.magic):
        return LocalFile(path, name, sha256=sha256, packed_sha256=sha256)

    plain_name = unpacked_name(name)
    unpacked = _new_path(spool, plain_name)
    with gzip.open(path) as reader:
        content_sha256 = _copy(reader, unpacked)
    return LocalFile(unpacked, plain_name, sha256=content_sha256, packed_sha256=sha256)


def _beside(place: Any, names: list[str], spool: Path) -> Loader | None:
    """Return what reads the first of `names` that stands in the folder of the file `place`."""
    # A remote store is not asked for files that nobody named.
    if not isinstance(place, Path):
        return None

    for name in names:
        neighbour = place.parent / name
        if neighbour.is_file():
            return partial(find_file, str(neighbour), spool)
    return None


def _in_folder(folder: Any, spool: Path, uri: str) -> FoundFiles:
    """Return the ratings in a folder and the metadata beside them."""
    files = {path.name: path for path in folder.iterdir() if path.is_file()}

    def load(name: str) -> LocalFile:
        """Return a local copy of one of the files."""
        return _local(files[name], name, spool)

    return _choose(list(files), load, uri)


def _in_zip(file: LocalFile, spool: Path, uri: str) -> FoundFiles:
    """Return the ratings in the zip `file` and the metadata beside them."""
    with zipfile.ZipFile(file.path) as archive:
        listing = archive.infolist()
    members = [info.filename for info in listing if not info.is_dir()]

    def load(member: str) -> LocalFile:
        """Return a local copy of one of the files."""
        # Metadata are read later, outside the caller's block, so errors are explained here too.
        with _explained(uri, file.path):
            return _extract(file, member, spool, uri)

    return _choose(members, load, uri)


def _extract(file: LocalFile, member: str, spool: Path, uri: str) -> LocalFile:
    """Return one member of the zip `file`."""
    name = PurePosixPath(member).name
    target = _new_path(spool, name)
    with zipfile.ZipFile(file.path) as archive:
        if archive.getinfo(member).flag_bits & _ENCRYPTED_FLAG:
            raise InputError(
                f"{redacted(uri)}: expected a zip without a password, but {member} is encrypted. "
                "Unpack it first."
            )
        with archive.open(member) as reader:
            _copy(reader, target)

    unpacked = _local(target, name, spool)
    # A configured checksum is that of the zip, not that of a member.
    return LocalFile(
        unpacked.path,
        unpacked.name,
        sha256=unpacked.sha256,
        packed_sha256=file.packed_sha256,
    )


def _choose(names: Sequence[str], load: Callable[[str], LocalFile], uri: str) -> FoundFiles:
    """Return the ratings among the files `names` of a folder or a zip, and their metadata.

    `load` reads one of the files.
    """
    chosen = _ratings_among(names)
    if not chosen:
        listing = ", ".join(sorted(names)[:_LISTED_NAMES]) or "no file"
        raise InputError(
            f"{redacted(uri)}: expected {expected_files()}, got {listing}. "
            "Name the file itself in source.uri."
        )

    first = PurePosixPath(chosen[0])
    items, users = companions(first.name)
    return FoundFiles(
        ratings=tuple(load(name) for name in chosen),
        items=_member(first.parent, items, names, load),
        users=_member(first.parent, users, names, load),
    )


def _member(
    folder: PurePosixPath,
    candidates: list[str],
    names: Sequence[str],
    load: Callable[[str], LocalFile],
) -> Loader | None:
    """Return what reads the first of `candidates` in `folder` that is one of `names`."""
    for candidate in candidates:
        member = str(folder / candidate)
        if member in names:
            return partial(load, member)
    return None


def _ratings_among(names: Sequence[str]) -> list[str]:
    """Return which of the files `names` of a folder or a zip are the ratings."""
    # Zips made on macOS carry a shadow of every file.
    visible = [PurePosixPath(name) for name in names if not name.startswith(_MACOS_SHADOWS)]
    paths = [path for path in visible if not path.name.startswith(_HIDDEN)]

    # The file nearest to the top comes first.
    paths.sort(key=lambda path: (len(path.parts), path))

    chosen = choose_ratings([path.name for path in paths])
    return [str(paths[number]) for number in chosen]


def _starts_with(path: Path, magic: bytes) -> bool:
    """Return whether the first bytes of a file are those of a format."""
    with path.open("rb") as file:
        first_bytes = file.read(len(magic))
    return first_bytes == magic


def _hash(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(reader: IO[bytes] | Any, target: Path) -> str:
    """Copy all of `reader` to `target` and return its sha256, in one pass over the bytes."""
    digest = hashlib.sha256()
    with target.open("wb") as writer:
        while block := reader.read(_COPY_BYTES):
            digest.update(block)
            writer.write(block)
    return digest.hexdigest()


def _new_path(spool: Path, name: str) -> Path:
    """Return a path in `spool` that is free and ends like `name`, which is never trusted."""
    number = sum(1 for _ in spool.iterdir())
    # Only the last part of the name, without anything that could lead out of the folder.
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", PurePosixPath(name).name)
    return spool / f"{number:04d}-{safe[-_LONGEST_NAME:]}"
