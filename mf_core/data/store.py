"""The one door to the artifact store: a disk, or an object store behind any fsspec URI.

**What has its name is whole.** On a disk, a file or folder gets its name by a rename, when all of
it is there. Until then it has a temporary name, which says which process writes it:
`.NAME.OWNER.RANDOM`. An object store has no rename and needs none: an object appears when all of it
has arrived.

**One kind of error.** Each client library raises errors of its own, and so does what it is built
on. Here they become an `ArtifactStoreError` that says what failed and what to do. What is not there
is no error of the store: only the caller knows what that means.

**No endless wait.** Clients give up after a few tries, each of them bounded in time.
"""

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from fsspec.config import conf as fsspec_settings
from upath import UPath

from mf_core.data import owner
from mf_core.errors import ArtifactStoreError, ConfigError
from mf_core.extras import AZURE, GCS, S3, Extra
from mf_core.redaction import reason_of, redacted

# Without an owner: how releases up to 0.2.0 named them.
_TEMPORARY = re.compile(rf"\..+?(\.(?P<owner>{owner.PATTERN}))?\.[0-9a-f]{{32}}")
# No write goes on for so long without a change: a run may take 20 hours in all.
_LONGER_THAN_ANY_WRITE = timedelta(days=1)

_DISK = ("", "file", "local")
_EXTRAS: dict[str, Extra] = {
    **dict.fromkeys(("s3", "s3a"), S3),
    **dict.fromkeys(("gs", "gcs"), GCS),
    **dict.fromkeys(("abfs", "abfss", "az", "adl"), AZURE),
}
# Listings are never remembered: other processes write as well. s3fs tries five times by itself, so
# botocore's own tries are few: a server that takes a request and is silent then holds a call for
# two and a half minutes.
_OPTIONS: dict[str, dict[str, Any]] = {
    S3.name: {
        "use_listings_cache": False,
        "config_kwargs": {"connect_timeout": 5, "read_timeout": 15, "retries": {"max_attempts": 1}},
    },
    GCS.name: {"use_listings_cache": False, "requests_timeout": 60},
    AZURE.name: {
        "use_listings_cache": False,
        "timeout": 60,
        "connection_timeout": 5,
        "read_timeout": 60,
    },
}
# What the clients and what they are built on raise, by the top-level package of the class.
_CLIENTS = {
    *("s3fs", "aiobotocore", "botocore", "boto3", "aiohttp", "aiohappyeyeballs"),
    *("gcsfs", "google", "requests", "urllib3", "adlfs", "azure", "msal", "fsspec"),
}
_REFUSALS = (401, 403)
_WITHOUT_CREDENTIALS = ("Credential", "NoAuthToken", "ClientAuthentication")
_CHECK = "Check the store and MF_ARTIFACT_ROOT; see docs/runbook.md#artifact-store."


def store_path(uri: str, **options: Any) -> UPath:
    """Return the path of a URI, with a client that gives up in time.

    Args:
        uri: any that fsspec knows.
        options: those of fsspec's file system, such as `key` and `secret`; without any, the client
            looks for credentials where it always does.

    Raises:
        ConfigError: nothing here can open such a URI, or a package is missing.
    """
    scheme = uri.partition("://")[0].lower() if "://" in uri else ""
    extra = _EXTRAS.get(scheme)
    if extra is None:
        ours: dict[str, Any] = {}
    else:
        extra.require()
        # What somebody has set for fsspec itself (FSSPEC_S3_..., ~/.config/fsspec) comes first.
        ours = {**client_settings(extra.name), **fsspec_settings.get(scheme, {})}
    try:
        return UPath(uri, **{**ours, **options})
    except (ValueError, ImportError) as error:
        raise ConfigError(
            f"expected a folder, or a URI that fsspec can open (file://, s3://, gs://, abfs://), "
            f"got {redacted(uri)}: {reason_of(error, uri).rstrip('.')}. "
            "Install its package, or correct the URI."
        ) from None


def client_settings(extra: str) -> dict[str, Any]:
    """Return what the client of an object store is told: how long to try, to remember nothing."""
    return _OPTIONS[extra]


def is_disk(path: UPath) -> bool:
    """Say whether `path` lies on a disk of this machine or one that it has mounted."""
    return path.protocol in _DISK


def read(path: UPath) -> bytes | None:
    """Return what a file holds, None if it is not there.

    Raises:
        ArtifactStoreError: the store can't be read.
    """
    with _explained(path, "read"), suppress(FileNotFoundError):
        content: bytes = path.fs.cat_file(path.path)
        return content
    return None


def write(path: UPath, data: bytes) -> None:
    """Write a file in one go: who reads it meanwhile finds the old content or the new one.

    Raises:
        ArtifactStoreError: the store can't be written to.
    """
    with _explained(path, "written"):
        if not is_disk(path):
            path.fs.pipe_file(path.path, data)
            return
        os.makedirs(path.parent.path, exist_ok=True)
        with temporary_beside(path) as temporary:
            temporary.write_bytes(data)
            os.replace(temporary.path, path.path)


def write_folder(target: UPath, files: dict[str, bytes]) -> bool:
    """Write a new folder on a disk in one go, and say whether it came to stand there.

    It does not where a writer beside this one has made one meanwhile.

    Raises:
        ArtifactStoreError: the store can't be written to.
    """
    with _explained(target, "written"), temporary_beside(target) as temporary:
        temporary.mkdir(parents=True)
        for name, data in files.items():
            (temporary / name).write_bytes(data)
        try:
            # Atomic, and refuses a folder that holds something.
            os.rename(temporary.path, target.path)
        except OSError:
            if not target.exists():
                raise
            return False
    return True


def exists(path: UPath) -> bool:
    """Say whether a file or a folder is there. Raises ArtifactStoreError."""
    # The file system's own `exists` takes whatever goes wrong for a no.
    with _explained(path, "read"):
        try:
            path.fs.info(path.path)
        except FileNotFoundError:
            return False
    return True


def names_in(folder: UPath) -> list[str]:
    """Return the names of what a folder holds; none if it is not there.

    Raises:
        ArtifactStoreError: the store can't be read.
    """
    with _explained(folder, "listed"), suppress(FileNotFoundError):
        found = folder.fs.ls(folder.path, detail=False)
        return sorted({name for path in found if (name := _below(folder, path))})
    return []


def files_below(folder: UPath, *, folders: bool = False) -> list[str]:
    """Return the path of every file below a folder, seen from there; `folders`: of these as well.

    Raises:
        ArtifactStoreError: the store can't be read.
    """
    with _explained(folder, "listed"), suppress(FileNotFoundError):
        found = folder.fs.find(folder.path, withdirs=folders)
        return sorted(name for path in found if (name := _below(folder, path)))
    return []


def size_of(folder: UPath) -> int:
    """Return the bytes of all files below a folder. Raises ArtifactStoreError."""
    with _explained(folder, "listed"), suppress(FileNotFoundError):
        return sum(file["size"] for file in folder.fs.find(folder.path, detail=True).values())
    return 0


def remove(path: UPath, first: str = "") -> None:
    """Remove a file or a folder with all that it holds; one that is not there is fine.

    Args:
        path: the file or folder.
        first: name of the files in it that go before the others, in an object store.

    Raises:
        ArtifactStoreError: the store can't be written to.
    """
    with _explained(path, "removed"):
        # Somebody else may be removing it, too.
        with suppress(FileNotFoundError):
            if is_disk(path):
                path.fs.rm(path.path, recursive=path.fs.isdir(path.path))
                return
        # One by one: a client that removes many takes `*` in a name for a pattern, and says nothing
        # of those that the store refuses to remove.
        files = path.fs.find(path.path)
        for file in sorted(files, key=lambda file: file.rpartition("/")[2] != first):
            with suppress(FileNotFoundError):
                path.fs.rm_file(file)


def try_store(folder: UPath) -> None:
    """Write a small file below a folder, read it back and remove it.

    That takes three requests, and is done before anything that takes long.

    Raises:
        ArtifactStoreError: one of them failed; the message says which, and why.
    """
    with temporary_beside(folder / "try") as file:
        sent = uuid.uuid4().bytes
        write(file, sent)
        if read(file) != sent:
            raise ArtifactStoreError(
                f"the artifact store at {folder} does not give back what was just written to it. "
                f"{_CHECK}"
            )


@contextmanager
def temporary_beside(target: UPath) -> Iterator[UPath]:
    """Give a path beside `target`, to write to and perhaps to rename; what stays there goes."""
    process = owner.this_process()
    middle = f"{process}." if process else ""
    temporary = target.parent / f".{target.name}.{middle}{uuid.uuid4().hex}"
    try:
        yield temporary
    except BaseException:
        # Of a write that failed, an object store holds nothing; and it may be the store that fails.
        if is_disk(target):
            with suppress(ArtifactStoreError):
                remove(temporary)
        raise
    remove(temporary)


def sweep_temporaries(root: UPath) -> list[str]:
    """Remove below `root` what writers left under temporary names, and nobody writes any more.

    That is what belongs to a process of this machine that is gone, and what has not changed for a
    day: the writer may live on another machine.

    Returns:
        The path of each file without such a name, seen from `root`; on a disk, of folders as well.

    Raises:
        ArtifactStoreError: the store can't be listed.
    """
    others = []
    # An object store has no folders, and files only have temporary names there.
    for name in files_below(root, folders=is_disk(root)):
        temporary = _TEMPORARY.fullmatch(name.rpartition("/")[2])
        if not temporary:
            others.append(name)
            continue
        # One that can't be removed is somebody else's to remove, or the next run's.
        with suppress(ArtifactStoreError):
            if owner.is_gone(temporary["owner"]) or is_abandoned(root / name):
                remove(root / name)
    return others


def is_abandoned(path: UPath, longer_than: timedelta = _LONGER_THAN_ANY_WRITE) -> bool:
    """Say whether a file, or all that a folder holds, has not changed for so long.

    Where the store can't tell, it may have.

    Raises:
        ArtifactStoreError: the store can't be read.
    """
    with _explained(path, "read"), suppress(FileNotFoundError):
        files = path.fs.find(path.path)
        # A folder in an object store has no time of its own. On a disk an empty one has.
        if not files and is_disk(path):
            files = [path.path]
        newest = datetime.now(UTC) - longer_than
        return bool(files) and all(path.fs.modified(file) < newest for file in files)
    return False


def _below(folder: UPath, path: str) -> str:
    """Return the path of what a client has listed, seen from the folder; "" for the folder."""
    start = os.path.abspath(folder.path) if is_disk(folder) else folder.path
    return path.removeprefix(start.rstrip("/")).strip("/")


@contextmanager
def _explained(path: UPath, done: str) -> Iterator[None]:
    """Turn whatever the store's client raises in the block into one kind of error."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and not _is_of_a_client(error):
            raise
        is_ours = _TEMPORARY.fullmatch(path.name)
        shown = f"a temporary file in {path.parent}" if is_ours else str(path)
        raise ArtifactStoreError(
            f"{redacted(shown)} could not be {done}: {why(error, str(path))} {_CHECK}"
        ) from error


def _is_of_a_client(error: Exception) -> bool:
    return any(kind.__module__.partition(".")[0] in _CLIENTS for kind in type(error).__mro__)


def why(error: Exception, uri: str) -> str:
    """Return in one sentence why a store's client has raised an error."""
    reason = reason_of(error, uri).rstrip(".")
    kinds = [kind.__name__ for kind in type(error).__mro__]
    status = getattr(error, "status_code", None) or getattr(error, "code", None)

    if isinstance(error, FileNotFoundError):
        return f"there is no such bucket, container or folder ({reason})."
    if any(word in kind for kind in kinds for word in _WITHOUT_CREDENTIALS):
        return f"no credentials for the store were found ({reason})."
    if isinstance(error, PermissionError) or str(status) in map(str, _REFUSALS):
        return f"the store refuses it ({reason})."
    if isinstance(error, OSError) and error.errno:
        return f"{reason}."
    return f"the store does not answer ({reason})."
