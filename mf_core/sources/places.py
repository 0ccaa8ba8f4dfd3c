"""Where a path or URI leads, and one file of it as a local file, unpacked and hashed."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from mf_core.data.store import store_path, why
from mf_core.errors import ConfigError, InputError, MFError
from mf_core.redaction import reason_of, redacted, without_query
from mf_core.sources.chunks import printable
from mf_core.sources.connections import credentials
from mf_core.sources.contents import BROKEN, ZIP_SUFFIX
from mf_core.sources.formats import unpacked_name
from mf_core.sources.known import stamp_of_file, stamp_of_object
from mf_core.sources.local import LocalFile, hash_of, unpacked
from mf_core.sources.opening import identity_of, opened, refuse_special
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
_BROKEN_ARCHIVE = (*BROKEN, zipfile.BadZipFile, NotImplementedError)
# What a library says of a URI that it can't make sense of; anything else may go away by itself.
_SENSELESS = (AttributeError, LookupError, NotImplementedError, TypeError, ValueError)


def locate(uri: str, spool: Spool, permit: Permit) -> Any:
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
def explained(uri: str, place: Any) -> Iterator[None]:
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
        kind = "zip" if shown.endswith(ZIP_SUFFIX) else "archive"
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


def exists(place: Any, spool: Spool) -> bool:
    """Return whether something is at `place`, if a store answers in time."""
    if isinstance(place, Path):
        return place.exists()
    return within(spool.limits.stall_seconds, lambda: bool(place.exists()))


def is_dir(place: Any, spool: Spool) -> bool:
    """Return whether `place` is a folder, if a store answers in time."""
    if isinstance(place, Path):
        return place.is_dir()
    return within(spool.limits.stall_seconds, lambda: bool(place.is_dir()))


def local_copy(place: Any, name: str, spool: Spool, permit: Permit) -> LocalFile:
    """Return `place` as a local, unpacked file."""
    if not isinstance(place, Path):
        # Some libraries take a query, which may hold a signature, for a part of the name.
        plain = without_query(name) or "ratings"
        stamp = _stamp_in_store(place, spool)
        known = _known(place, plain, stamp, spool)
        return known or unpacked(_fetched(place, printable(plain), spool, stamp), spool)

    with opened(place, permit) as path:
        identity = identity_of(path)
        stamp = stamp_of_file(path)
        if known := _known(place, name, stamp, spool):
            return known
        sha256 = hash_of(path)
    file = LocalFile(
        place,
        printable(name),
        sha256,
        sha256,
        permit,
        identity,
        place=_path_of(place),
        stamp=stamp,
    )
    return unpacked(file, spool)


def _known(place: Any, name: str, stamp: str | None, spool: Spool) -> LocalFile | None:
    """Return a file that was loaded before as one that is not fetched; None: it has to be."""
    sha256 = spool.known.content_at(_path_of(place), stamp)
    if sha256 is None:
        return None
    plain = unpacked_name(printable(name))
    return LocalFile(
        Path(), plain, sha256, sha256, place=_path_of(place), stamp=stamp, is_absent=True
    )


def _stamp_in_store(place: Any, spool: Spool) -> str | None:
    """Return what a store says of an object's version, if that is asked for."""
    if not spool.known.by_stamp or isinstance(place, WebFile):
        return None
    seconds = spool.limits.stall_seconds
    return stamp_of_object(within(seconds, lambda: place.fs.info(place.path)))


def _fetched(place: Any, name: str, spool: Spool, stamp: str | None) -> LocalFile:
    """Return a remote file as one in the spool.

    It has the stamp that it had before, if it still has it.
    """
    path = spool.new_path(name)
    reader = within(spool.limits.stall_seconds, lambda: place.open("rb"))
    try:
        sha256 = spool.fetch(reader, path)
    finally:
        # A store that has gone silent may not answer to this either.
        with suppress(SilentError):
            within(spool.limits.stall_seconds, reader.close)
    if stamp != _stamp_in_store(place, spool):
        stamp = None
    return LocalFile(path, name, sha256, sha256, place=_path_of(place), stamp=stamp)


def _path_of(place: Any) -> str:
    """Return the path of a place, "" for one of the web."""
    if isinstance(place, Path):
        return str(place)
    return str(getattr(place, "path", ""))
