"""What is in a folder, on a disk or in a store: its files, those of partitions, those of a pattern.

One walk for all of them: a folder is listed only where the permit reaches, and a name in it is
followed only by listing or opening it, which is judged again.
"""

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from mf_core.errors import InputError
from mf_core.redaction import redacted
from mf_core.sources.chunks import printable
from mf_core.sources.formats import TABLES_WITH_A_LOG, UNFINISHED, is_partition
from mf_core.sources.opening import names_in
from mf_core.sources.reach import Permit, is_chained, scheme_of
from mf_core.sources.spool import Spool, within
from mf_core.sources.web import SCHEMES as WEB_SCHEMES

HIDDEN = (".", "_")
"""What the names of files begin with that are not meant for readers: `_SUCCESS`, `.part.crc`."""

_ANY_DEPTH = "**"
_MAGIC = re.compile(r"[*?\[]")

Places = dict[str, Any]
"""Files by their paths within a folder: each a `Path` or a `UPath`."""


class Folders:
    """Lists folders of one URI.

    Args:
        uri: what people call it.
        spool: says how long a store may be silent.
        permit: what each folder is judged by.
    """

    def __init__(self, uri: str, spool: Spool, permit: Permit) -> None:
        self._uri = uri
        self._spool = spool
        self._permit = permit

    def files_in(self, folder: Any) -> Places:
        """Return the files of a folder, and those of the partitions in it.

        Raises:
            InputError: it holds a table that these files are not all of.
            ConfigError: it lies where the permit does not reach.
        """
        files, folders = self._entries(folder)
        refuse_what_is_no_table(self._uri, folders)
        found = dict(files)
        for name, inner in folders.items():
            if is_partition(name):
                below = self.files_in(inner)
                found |= {f"{name}/{path}": place for path, place in below.items()}
        return found

    def matching(self, folder: Any, pattern: str) -> tuple[Places, Places]:
        """Return the files and the folders below `folder` that a pattern matches, by their paths.

        `*`, `?` and `[...]` stand for a part of one name, `**` for any number of folders.
        """
        files: Places = {}
        folders: Places = {}
        for path, place, is_folder in self._walk(folder, PurePosixPath(pattern).parts):
            (folders if is_folder else files)[path] = place
        return files, folders

    def _walk(self, folder: Any, parts: tuple[str, ...]) -> Iterator[tuple[str, Any, bool]]:
        """Yield path, place and whether it is a folder, of what `parts` match below a folder."""
        first, *rest = parts
        files, folders = self._entries(folder)
        if first == _ANY_DEPTH:
            # No folder at all, or one more.
            yield from self._walk(folder, tuple(rest) or ("*",))
            for name, inner in folders.items():
                if not name.startswith(HIDDEN):
                    yield from _below(name, self._walk(inner, parts))
            return

        for name, place in folders.items():
            if not _matches(name, first):
                continue
            if rest:
                yield from _below(name, self._walk(place, tuple(rest)))
            else:
                yield name, place, True
        for name, place in files.items():
            if not rest and _matches(name, first):
                yield name, place, False

    def _entries(self, folder: Any) -> tuple[Places, Places]:
        """Return the files and the folders in a folder by name, in order of their names."""
        if isinstance(folder, Path):
            file_names, folder_names = names_in(folder, self._permit)
        else:
            seconds = self._spool.limits.stall_seconds
            file_names, folder_names = within(seconds, lambda: _names_in_store(folder))
        files = {name: folder / name for name in sorted(file_names)}
        return files, {name: folder / name for name in sorted(folder_names)}


def refuse_what_is_no_table(uri: str, folders: Iterable[str]) -> None:
    """Raise InputError where files are not the table: removed rows are in them, or not all.

    Args:
        uri: where the files are.
        folders: the names of the folders beside them.
    """
    shown = redacted(uri)
    for name in folders:
        if name in TABLES_WITH_A_LOG:
            kind = TABLES_WITH_A_LOG[name]
            raise InputError(
                f"{shown}: expected files that are one table, got a {kind} table, in whose files "
                f"removed rows are left (it has {name}). Export it as Parquet, or query it "
                "(source.uri=sql)."
            )
        if name == UNFINISHED:
            raise InputError(
                f"{shown}: expected a finished folder, got one that is being written to (it has "
                f"{name}). Load it once its job has ended, or remove what a failed job has left."
            )


def split_pattern(uri: str) -> tuple[str, str] | None:
    """Return the folder and the pattern of a URI that has one, None for any other."""
    # On the web, `?` begins the query, and nothing can be listed.
    if is_chained(uri) or scheme_of(uri) in WEB_SCHEMES:
        return None
    parts = uri.split("/")
    for number, part in enumerate(parts):
        if _MAGIC.search(part):
            before = "/".join(parts[:number])
            folder = before or ("/" if number else ".")
            return folder, "/".join(parts[number:])
    return None


def _matches(name: str, pattern: str) -> bool:
    """Say whether a pattern matches a name; one of a hidden file must be named as such."""
    if name.startswith(HIDDEN) and not pattern.startswith(name[0]):
        return False
    return fnmatchcase(name, pattern)


def _below(folder: str, found: Iterator[tuple[str, Any, bool]]) -> Iterator[tuple[str, Any, bool]]:
    """Yield what was found in a folder by its path from outside."""
    for path, place, is_folder in found:
        yield f"{folder}/{path}", place, is_folder


def _names_in_store(folder: Any) -> tuple[list[str], list[str]]:
    """Return the names of the files and those of the folders in a folder of a store."""
    files: list[str] = []
    folders: list[str] = []
    for entry in folder.fs.ls(folder.path, detail=True):
        path = entry["name"].rstrip("/")
        # Some stores list the folder itself as an object of no bytes.
        if path.strip("/") == folder.path.strip("/"):
            continue
        name = path.rpartition("/")[2]
        (folders if entry["type"] == "directory" else files).append(name)
    return files, folders


def listed(names: list[str], most: int) -> str:
    """Return names as a message shows them, the first ones only."""
    return ", ".join(map(printable, sorted(names)[:most])) or "no file"
