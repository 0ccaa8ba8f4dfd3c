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

_COPY_BYTES = 1 << 20
_WEB_SECONDS = 60
_LOCAL_PROTOCOLS = ("", "file", "local")
_PREFERRED = ("u.data", "ratings.dat", "ratings.csv")
_TABLE_SUFFIXES = (".csv", ".tsv", ".dat", ".txt", ".data")
# Where the metadata lie beside each kind of ratings file.
_COMPANIONS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (r"(u\.data|u[0-9ab]\.(?:base|test))$", ("u.item", "ml-100k.item"), ("u.user", "ml-100k.user")),
    (r"ratings\.dat$", ("movies.dat",), ("users.dat",)),
    (r"ratings\.csv$", ("movies.csv",), ("users.csv",)),
    (r"(?P<stem>.+)\.inter$", ("{stem}.item",), ("{stem}.user",)),
)


class SourceUnavailableError(InputError, RetryableError):
    """A remote source did not answer; it may do so later."""


@dataclass(frozen=True)
class LocalFile:
    """A file that can be read here. `sha256` is that of its (unpacked) content, `packed_sha256` that of what it came in."""

    path: Path
    name: str
    sha256: str
    packed_sha256: str


@dataclass(frozen=True)
class FoundFiles:
    """What a URI leads to. More than one file of ratings: the parts of a Parquet folder. The metadata are read on demand."""

    ratings: tuple[LocalFile, ...]
    items: Callable[[], LocalFile] | None
    users: Callable[[], LocalFile] | None


def redacted(uri: str) -> str:
    """Return `uri` without user name and password."""
    return re.sub(r"://[^/@]*@", "://***@", uri)


def find_files(uri: str, spool: Path) -> FoundFiles:
    """Return the local files behind `uri`: a file, a folder, a zip or a gz; what is not a plain local file is put in `spool`.

    Raises:
        InputError: nothing is there, or it is truncated or damaged, or holds no ratings.
        SourceUnavailableError: a remote store did not answer.
    """
    place = _locate(uri)
    with _explained(uri, place):
        if place.is_dir():
            listing = {path.name: path for path in place.iterdir() if path.is_file()}
            return _choose(list(listing), lambda name: _local(listing[name], name, spool), uri)
        file = _local(place, place.name or "ratings", spool)
        if zipfile.is_zipfile(file.path) or _starts_with(file.path, b"PK\x03\x04"):
            return _in_zip(file, spool, uri)
        return FoundFiles(
            (file,), *(_beside(place, names, spool) for names in companions(file.name))
        )


def find_file(uri: str, spool: Path) -> LocalFile:
    """Return the one local file behind `uri` (metadata, a second file). Raises as `find_files` does."""
    place = _locate(uri)
    with _explained(uri, place):
        return _local(place, place.name, spool)


def companions(ratings_name: str) -> tuple[list[str], list[str]]:
    """Return the names that the items and users files beside a ratings file of that name may have, best first."""
    for pattern, items, users in _COMPANIONS:
        if match := re.match(pattern, ratings_name.removesuffix(".gz")):
            named = match.groupdict()
            return [name.format(**named) for name in items], [
                name.format(**named) for name in users
            ]
    return [], []


@dataclass(frozen=True)
class _WebFile:
    """A file behind http or https, read with what Python ships (fsspec would need aiohttp)."""

    uri: str

    @property
    def name(self) -> str:
        return PurePosixPath(unquote(urlsplit(self.uri).path)).name

    def is_dir(self) -> bool:
        return False

    @contextmanager
    def open(self, _: str) -> Iterator[Any]:
        try:
            with urllib.request.urlopen(self.uri, timeout=_WEB_SECONDS) as response:
                yield response
                if response.length:
                    raise ConnectionError(f"the connection ended {response.length:,} bytes early")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                raise FileNotFoundError(self.uri) from None
            raise


def _locate(uri: str) -> Any:
    if re.match(r"https?://", uri):
        return _WebFile(uri)
    try:
        place = UPath(uri)
        return Path(place.path).expanduser() if place.protocol in _LOCAL_PROTOCOLS else place
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{redacted(uri)}: expected a path or a URI that fsspec can open, but {error}. Install its package."
        ) from None


@contextmanager
def _explained(uri: str, place: Any) -> Iterator[None]:
    shown = redacted(uri)
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"{shown}: expected a URI that this installation can open, but: {error}."
        ) from None
    except FileNotFoundError:
        raise InputError(
            f"{shown}: expected a file or folder, but nothing is there. Check source.uri."
        ) from None
    except (PermissionError, IsADirectoryError) as error:
        raise InputError(
            f"{shown}: expected a readable file, but {error.strerror or error}. Check the path and its rights."
        ) from None
    except (
        EOFError,
        gzip.BadGzipFile,
        zlib.error,
        zipfile.BadZipFile,
        NotImplementedError,
    ) as error:
        raise InputError(
            f"{shown}: expected a whole {'zip' if shown.endswith('.zip') else 'archive'}, but it is truncated or damaged "
            f"({error}). Fetch it again."
        ) from None
    except OSError as error:
        kind = InputError if isinstance(place, Path) else SourceUnavailableError
        raise kind(
            f"{shown}: could not be read: {redacted(str(error))}. Check source.uri and the store."
        ) from error


def _local(place: Any, name: str, spool: Path) -> LocalFile:
    """Return `place` as a local, unpacked file."""
    if isinstance(place, Path):
        path, sha256 = place, _hash(place)
    else:
        path = _new_path(spool, name)
        with place.open("rb") as reader:
            sha256 = _copy(reader, path)
    if not _starts_with(path, b"\x1f\x8b"):
        return LocalFile(path, name, sha256, sha256)
    unpacked = _new_path(spool, name.removesuffix(".gz"))
    with gzip.open(path) as reader:
        return LocalFile(unpacked, name.removesuffix(".gz"), _copy(reader, unpacked), sha256)


def _beside(place: Any, names: list[str], spool: Path) -> Callable[[], LocalFile] | None:
    if not isinstance(place, Path):
        return None
    neighbour = next(
        (place.parent / name for name in names if (place.parent / name).is_file()), None
    )
    return partial(find_file, str(neighbour), spool) if neighbour else None


def _in_zip(file: LocalFile, spool: Path, uri: str) -> FoundFiles:
    with zipfile.ZipFile(file.path) as archive:
        members = [info.filename for info in archive.infolist() if not info.is_dir()]

    def extract(member: str) -> LocalFile:
        name = PurePosixPath(member).name
        target = _new_path(spool, name)
        with _explained(uri, file.path), zipfile.ZipFile(file.path) as archive:
            if archive.getinfo(member).flag_bits & 1:
                raise InputError(
                    f"{redacted(uri)}: expected a zip without a password, but {member} is encrypted. Unpack it first."
                )
            with archive.open(member) as reader:
                _copy(reader, target)
        unpacked = _local(target, name, spool)
        return LocalFile(unpacked.path, unpacked.name, unpacked.sha256, file.packed_sha256)

    return _choose(members, extract, uri)


def _choose(names: Sequence[str], load: Callable[[str], LocalFile], uri: str) -> FoundFiles:
    """Return the ratings among the files `names` of a folder or a zip, and the metadata beside them."""
    chosen = _ratings_among(names)
    if not chosen:
        listing = ", ".join(sorted(names)[:10]) or "no file"
        raise InputError(
            f"{redacted(uri)}: expected u.data, ratings.dat, ratings.csv, *.inter, *.parquet or a single table, got {listing}. "
            "Name the file itself in source.uri."
        )
    folder = PurePosixPath(chosen[0]).parent
    loaders: list[Callable[[], LocalFile] | None] = []
    for candidates in companions(PurePosixPath(chosen[0]).name):
        member = next(
            (str(folder / name) for name in candidates if str(folder / name) in names), None
        )
        loaders.append(partial(load, member) if member else None)
    return FoundFiles(tuple(load(name) for name in chosen), loaders[0], loaders[1])


def _ratings_among(names: Sequence[str]) -> list[str]:
    # The file nearest to the top comes first; macOS zips carry a shadow of every file.
    visible = [PurePosixPath(name) for name in names if not name.startswith("__MACOSX/")]
    paths = sorted(
        (path for path in visible if not path.name.startswith((".", "_"))),
        key=lambda path: (len(path.parts), path),
    )
    plain = {path: path.name.lower().removesuffix(".gz") for path in paths}
    for preferred in _PREFERRED:
        if found := [path for path, name in plain.items() if name == preferred]:
            return [str(found[0])]
    if found := [path for path, name in plain.items() if name.endswith(".inter")]:
        return [str(found[0])] if len(found) == 1 else []
    if found := [path for path, name in plain.items() if name.endswith(".parquet")]:
        return [str(path) for path in found]
    tables = [
        path
        for path, name in plain.items()
        if name.endswith(_TABLE_SUFFIXES) and not name.startswith("readme")
    ]
    return [str(tables[0])] if len(tables) == 1 else []


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(reader: IO[bytes] | Any, target: Path) -> str:
    digest = hashlib.sha256()
    with target.open("wb") as writer:
        while block := reader.read(_COPY_BYTES):
            digest.update(block)
            writer.write(block)
    return digest.hexdigest()


def _new_path(spool: Path, name: str) -> Path:
    """Return a path in `spool` that is free and ends like `name`, which is never trusted as a path."""
    number = sum(1 for _ in spool.iterdir())
    return spool / f"{number:04d}-{re.sub(r'[^A-Za-z0-9._-]', '_', PurePosixPath(name).name)[-80:]}"
