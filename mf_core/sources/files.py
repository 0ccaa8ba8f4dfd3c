"""From a path or URI to local files: folders, zips, gz and remote objects, hashed on the way."""

import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from mf_core.data.store import store_path, why
from mf_core.errors import ConfigError, InputError, MFError
from mf_core.redaction import reason_of, redacted, without_query
from mf_core.sources.chunks import printable
from mf_core.sources.connections import credentials
from mf_core.sources.formats import (
    ZIP,
    choose_ratings,
    companions,
    expected_files,
)
from mf_core.sources.local import LocalFile, extract, hash_of, is_zip, opened_zip, unpacked
from mf_core.sources.opening import identity_of, names_in, opened, refuse_special
from mf_core.sources.reach import (
    LOCAL_SCHEMES,
    Permit,
    is_chained,
    last_of_chain,
    local_path,
    scheme_of,
)
from mf_core.sources.spool import (
    SilentError,
    SourceUnavailableError,
    Spool,
    TooLargeError,
    within,
)
from mf_core.sources.web import SCHEMES as WEB_SCHEMES
from mf_core.sources.web import WebFile

_LOCAL_PROTOCOLS = ("", *LOCAL_SCHEMES)
_LISTED_NAMES = 10
_MACOS_SHADOWS = "__MACOSX/"
_HIDDEN = (".", "_")
_BROKEN_ARCHIVE = (
    EOFError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    zipfile.BadZipFile,
    NotImplementedError,
)
# What a library says of a URI that it can't make sense of; anything else may go away by itself.
_SENSELESS = (AttributeError, LookupError, NotImplementedError, TypeError, ValueError)

Loader = Callable[[], "LocalFile"]


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


def find_files(uri: str, spool: Spool, permit: Permit) -> FoundFiles:
    """Return the local files behind `uri`: a file, a folder, a zip or a gz.

    What is not a plain local file is put in the folder of `spool`.

    Raises:
        InputError: nothing is there, or it is truncated or damaged, or holds no ratings.
        ConfigError: it lies where the permit does not reach.
        SourceUnavailableError: a remote store did not answer.
        ScratchFullError: the temporary folder is full.
    """
    place = _locate(uri, spool, permit)
    with _explained(uri, place):
        if _is_dir(place, spool):
            return _in_folder(place, spool, permit, uri)

        file = _local(place, place.name or "ratings", spool, permit)
        if is_zip(file):
            return _in_zip(file, spool, uri)

        items, users = companions(file.name)
        return FoundFiles(
            ratings=(file,),
            items=_beside(place, items, spool, permit),
            users=_beside(place, users, spool, permit),
        )


def find_file(uri: str, spool: Spool, permit: Permit) -> LocalFile:
    """Return the one local file behind `uri` (metadata, a second file). Raises as `find_files`."""
    place = _locate(uri, spool, permit)
    with _explained(uri, place):
        return _local(place, place.name, spool, permit)


def _locate(uri: str, spool: Spool, permit: Permit) -> Any:
    """Return where `uri` leads: a `Path`, a `WebFile` or a `UPath`.

    Raises:
        InputError: nothing can open it.
        ConfigError: it lies where the permit does not reach.
    """
    permit.judge(uri)
    scheme = scheme_of(uri)
    if scheme in WEB_SCHEMES:
        return WebFile(uri, permit, spool.limits.stall_seconds)
    if scheme in _LOCAL_PROTOCOLS and not is_chained(uri):
        return local_path(uri)

    # Judged as such once more: whatever it is called, a library will open it.
    permit.judge_store(uri)
    refuse_special(local_path(last_of_chain(uri)))
    options = credentials(uri, permit)
    try:
        return store_path(uri, **options)
    except ConfigError as error:
        raise InputError(str(error)) from None
    except Exception as error:
        raise InputError(
            f"{redacted(uri)}: expected a path or a URI that fsspec can open, but "
            f"{reason_of(error, uri)}. Install its package, or correct the URI."
        ) from None


@contextmanager
def _explained(uri: str, place: Any) -> Iterator[None]:
    """Turn whatever goes wrong with `uri` in the block into an error in words."""
    shown = redacted(uri)
    try:
        yield
    except TooLargeError as error:
        raise InputError(f"{shown}: {error}") from None
    except SilentError as error:
        raise SourceUnavailableError(f"{shown}: {error}") from None
    except MFError:
        # It is in words already.
        raise
    except ImportError as error:
        raise InputError(
            f"{shown}: expected a URI that this installation can open, but: "
            f"{reason_of(error, uri)}. Install the package that is missing."
        ) from None
    except FileNotFoundError:
        raise InputError(
            f"{shown}: expected a file or folder, but nothing is there. Check source.uri."
        ) from None
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        if not isinstance(place, Path):
            raise InputError(
                f"{shown}: could not be read: {why(error, uri)} "
                "Check source.uri, and the credentials for the store."
            ) from None
        raise InputError(
            f"{shown}: expected a readable file, but {error.strerror or type(error).__name__}. "
            "Check the path and its rights."
        ) from None
    except _BROKEN_ARCHIVE as error:
        kind = "zip" if shown.endswith(ZIP.suffix) else "archive"
        raise InputError(
            f"{shown}: expected a whole {kind}, but it is truncated or damaged "
            f"({reason_of(error, uri)}). Fetch it again."
        ) from None
    except Exception as error:
        _raise_for(error, uri, place)


def _raise_for(error: Exception, uri: str, place: Any) -> NoReturn:
    """Raise what any other error of a place means: it is wrong, or may answer later."""
    # A disk that fails here will fail again; a store that did not answer may answer later.
    lasting = isinstance(place, Path) or isinstance(error, _SENSELESS)
    failure = InputError if lasting else SourceUnavailableError
    reason = f"{reason_of(error, uri)}." if lasting else why(error, uri)
    raise failure(
        f"{redacted(uri)}: could not be read: {reason} Check source.uri and the store."
    ) from None


def _is_dir(place: Any, spool: Spool) -> bool:
    """Return whether `place` is a folder, if a store answers in time."""
    if isinstance(place, Path):
        return place.is_dir()
    return within(spool.limits.stall_seconds, lambda: bool(place.is_dir()))


def _local(place: Any, name: str, spool: Spool, permit: Permit) -> LocalFile:
    """Return `place` as a local, unpacked file."""
    if not isinstance(place, Path):
        # Some libraries take a query, which may hold a signature, for a part of the name.
        plain = without_query(name) or "ratings"
        return unpacked(_fetched(place, printable(plain), spool), spool)

    with opened(place, permit) as path:
        identity = identity_of(path)
        sha256 = hash_of(path)
    return unpacked(LocalFile(place, printable(name), sha256, sha256, permit, identity), spool)


def _fetched(place: Any, name: str, spool: Spool) -> LocalFile:
    """Return a remote file as one in the spool."""
    path = spool.new_path(name)
    reader = within(spool.limits.stall_seconds, lambda: place.open("rb"))
    try:
        sha256 = spool.fetch(reader, path)
    finally:
        # A store that has gone silent may not answer to this either.
        with suppress(SilentError):
            within(spool.limits.stall_seconds, reader.close)
    return LocalFile(path, name, sha256, sha256)


def _beside(place: Any, names: list[str], spool: Spool, permit: Permit) -> Loader | None:
    """Return what reads the first of `names` that stands in the folder of the file `place`."""
    # A remote store is not asked for files that nobody named.
    if not isinstance(place, Path):
        return None

    for name in names:
        neighbour = place.parent / name
        if neighbour.is_file():
            return partial(find_file, str(neighbour), spool, permit)
    return None


def _in_folder(folder: Any, spool: Spool, permit: Permit, uri: str) -> FoundFiles:
    """Return the ratings in a folder and the metadata beside them."""
    files: Mapping[str, Any]
    if isinstance(folder, Path):
        files = {name: folder / name for name in names_in(folder, permit)}
    else:
        files = within(spool.limits.stall_seconds, lambda: _listing(folder))

    def load(name: str) -> LocalFile:
        """Return a local copy of one of the files."""
        # Metadata are read later, outside the caller's block, so errors are explained here too.
        with _explained(uri, folder):
            return _local(files[name], name, spool, permit)

    return _choose(list(files), load, uri)


def _listing(folder: Any) -> Mapping[str, Any]:
    """Return the files in a folder of a store by name."""
    return {path.name: path for path in folder.iterdir() if path.is_file()}


def _in_zip(file: LocalFile, spool: Spool, uri: str) -> FoundFiles:
    """Return the ratings in the zip `file` and the metadata beside them."""
    with opened_zip(file, uri) as archive:
        listing = archive.infolist()
    members = [info.filename for info in listing if not info.is_dir()]

    def load(member: str) -> LocalFile:
        """Return a local copy of one of the files."""
        # Metadata are read later, outside the caller's block, so errors are explained here too.
        with _explained(uri, file.path):
            return extract(file, member, spool, uri)

    return _choose(members, load, uri)


def _choose(names: Sequence[str], load: Callable[[str], LocalFile], uri: str) -> FoundFiles:
    """Return the ratings among the files `names` of a folder or a zip, and their metadata.

    `load` reads one of the files.
    """
    chosen = _ratings_among(names)
    if not chosen:
        listing = ", ".join(map(printable, sorted(names)[:_LISTED_NAMES])) or "no file"
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
    by_path = {PurePosixPath(name): name for name in names}
    for candidate in candidates:
        member = by_path.get(folder / candidate)
        if member is not None:
            return partial(load, member)
    return None


def _ratings_among(names: Sequence[str]) -> list[str]:
    """Return which of the files `names` of a folder or a zip are the ratings."""
    # Zips made on macOS carry a shadow of every file.
    visible = [name for name in names if not name.startswith(_MACOS_SHADOWS)]
    shown = [name for name in visible if not PurePosixPath(name).name.startswith(_HIDDEN)]

    # The file nearest to the top comes first.
    shown.sort(key=lambda name: (len(PurePosixPath(name).parts), PurePosixPath(name)))

    # The names themselves are kept: as a path, `./u.data` would be another one.
    chosen = choose_ratings([PurePosixPath(name).name for name in shown])
    return [shown[number] for number in chosen]
