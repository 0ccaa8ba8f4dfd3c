"""From paths or URIs to local files: folders, parts, patterns and zips, each hashed on the way."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from mf_core.config import uris_in
from mf_core.errors import InputError
from mf_core.redaction import redacted
from mf_core.sources.chunks import printable
from mf_core.sources.formats import choose_ratings, companions, expected_files
from mf_core.sources.listing import (
    HIDDEN,
    Folders,
    Places,
    listed,
    refuse_what_is_no_table,
    split_pattern,
)
from mf_core.sources.local import LocalFile, extract, is_zip, opened_zip
from mf_core.sources.places import exists, explained, is_dir, local_copy, locate
from mf_core.sources.reach import Permit
from mf_core.sources.spool import Spool

_LISTED_NAMES = 10
_MACOS_SHADOWS = "__MACOSX/"

Loader = Callable[[], "LocalFile"]


@dataclass(frozen=True)
class FoundFiles:
    """What URIs lead to.

    Attributes:
        ratings: the files of ratings in reading order, those of each URI together. More than one
            are the parts of one table.
        items: reads the file of items on demand, None if there is none.
        users: likewise for the users.
    """

    ratings: tuple[tuple[LocalFile, ...], ...]
    items: Loader | None = None
    users: Loader | None = None


def find_files(uris: str, spool: Spool, permit: Permit) -> FoundFiles:
    """Return the local files behind `uris`, one a line: files, folders, patterns or zips.

    What is not a plain local file is put in the folder of `spool`.

    Raises:
        InputError: nothing is there, or it is truncated or damaged, or holds no ratings.
        ConfigError: it lies where the permit does not reach.
        SourceUnavailableError: a remote store did not answer.
        ScratchFullError: the temporary folder is full.
    """
    found = _joined([_find(uri, spool, permit) for uri in uris_in(uris)])
    return replace(found, ratings=tuple(_each_once(found.ratings)))


def find_file(uri: str, spool: Spool, permit: Permit) -> LocalFile:
    """Return the one local file behind `uri` (metadata, a second file). Raises as `find_files`."""
    place = locate(uri, spool, permit)
    with explained(uri, place):
        return local_copy(place, place.name, spool, permit)


def _each_once(
    tables: Iterable[tuple[LocalFile, ...]],
) -> Iterator[tuple[LocalFile, ...]]:
    """Yield the files of several tables, those that two lines lead to once."""
    seen: set[tuple[str, str]] = set()
    for files in tables:
        new = []
        for file in files:
            known = (file.place, file.sha256)
            # Of the web, the place is not known.
            if file.place and known in seen:
                continue
            seen.add(known)
            new.append(file)
        if new:
            yield tuple(new)


def _joined(found: Sequence[FoundFiles]) -> FoundFiles:
    """Return the files of all that was found, with the first metadata."""
    return FoundFiles(
        ratings=tuple(files for one in found for files in one.ratings),
        items=next((one.items for one in found if one.items), None),
        users=next((one.users for one in found if one.users), None),
    )


def _find(uri: str, spool: Spool, permit: Permit) -> FoundFiles:
    """Return the local files behind one URI."""
    place = locate(uri, spool, permit)
    with explained(uri, place):
        pattern = split_pattern(uri)
        # A name may hold what is otherwise a pattern.
        if pattern and not exists(place, spool):
            return _matching(pattern, uri, spool, permit)
        if is_dir(place, spool):
            return _in_folder(place, spool, permit, uri)
        return _in_file(place, place.name or "ratings", spool, permit, uri)


def _in_file(place: Any, name: str, spool: Spool, permit: Permit, uri: str) -> FoundFiles:
    """Return a file, or what is in it if it is a zip, and the metadata beside it."""
    file = local_copy(place, name, spool, permit)
    if not file.is_absent and is_zip(file):
        return _in_zip(file, spool, uri)

    items, users = companions(PurePosixPath(file.name).name)
    return FoundFiles(
        ratings=((file,),),
        items=_beside(place, items, spool, permit),
        users=_beside(place, users, spool, permit),
    )


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


def _matching(pattern: tuple[str, str], uri: str, spool: Spool, permit: Permit) -> FoundFiles:
    """Return the ratings of all files that a pattern matches, and of all folders, as one table."""
    base, names = pattern
    folders = Folders(uri, spool, permit)
    files, matched_folders = folders.matching(locate(base, spool, permit), names)
    for path, folder in matched_folders.items():
        inside = folders.files_in(folder)
        chosen = _ratings_among(list(inside))
        if inside and not chosen:
            raise _nothing_chosen(f"{redacted(uri)}: {printable(path)}", list(inside))
        files |= {f"{path}/{name}": inside[name] for name in chosen}
    if not files:
        raise InputError(
            f"{redacted(uri)}: expected files that match it, but nothing is there. "
            "Check source.uri."
        )

    found = [_in_file(files[path], path, spool, permit, uri) for path in sorted(files)]
    together = _joined(found)
    parts = tuple(file for part in together.ratings for file in part)
    return replace(together, ratings=(parts,))


def _in_folder(folder: Any, spool: Spool, permit: Permit, uri: str) -> FoundFiles:
    """Return the ratings in a folder and the metadata beside them."""
    files: Places = Folders(uri, spool, permit).files_in(folder)

    def load(path: str) -> LocalFile:
        """Return a local copy of one of the files."""
        # Metadata are read later, outside the caller's block, so errors are explained here too.
        with explained(uri, folder):
            return local_copy(files[path], PurePosixPath(path).name, spool, permit)

    return _choose(list(files), load, uri)


def _in_zip(file: LocalFile, spool: Spool, uri: str) -> FoundFiles:
    """Return the ratings in the zip `file` and the metadata beside them."""
    with opened_zip(file, uri) as archive:
        listing = archive.infolist()
    members = [info.filename for info in listing if not info.is_dir()]
    folders = {part for member in members for part in PurePosixPath(member).parts[:-1]}
    refuse_what_is_no_table(uri, sorted(folders))

    def load(member: str) -> LocalFile:
        """Return a local copy of one of the files."""
        # Metadata are read later, outside the caller's block, so errors are explained here too.
        with explained(uri, file.path):
            return extract(file, member, spool, uri)

    return _choose(members, load, uri)


def _choose(names: Sequence[str], load: Callable[[str], LocalFile], uri: str) -> FoundFiles:
    """Return the ratings among the files `names` of a folder or a zip, and their metadata.

    `load` reads one of the files.
    """
    chosen = _ratings_among(names)
    if not chosen:
        raise _nothing_chosen(redacted(uri), list(names))

    first = PurePosixPath(chosen[0])
    items, users = companions(first.name)
    return FoundFiles(
        ratings=(tuple(_named_apart(chosen, load)),),
        items=_member(first.parent, items, names, load),
        users=_member(first.parent, users, names, load),
    )


def _nothing_chosen(shown: str, names: list[str]) -> InputError:
    """Return what is said of a folder or a zip in which no file is surely the ratings."""
    return InputError(
        f"{shown}: expected {expected_files()}, got {listed(names, _LISTED_NAMES)}. Name the file "
        "itself in source.uri, or several that are one table by a pattern (FOLDER/NAME*)."
    )


def _named_apart(chosen: Sequence[str], load: Callable[[str], LocalFile]) -> Iterable[LocalFile]:
    """Yield the chosen files; several of them have the names of their folders before their own."""
    for path in chosen:
        file = load(path)
        folder = PurePosixPath(path).parent
        if len(chosen) > 1 and folder.name:
            file = replace(file, name=f"{printable(str(folder))}/{file.name}")
        yield file


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
    shown = [name for name in visible if not PurePosixPath(name).name.startswith(HIDDEN)]

    # The file nearest to the top comes first.
    shown.sort(key=lambda name: (len(PurePosixPath(name).parts), PurePosixPath(name)))

    # The names themselves are kept: as a path, `./u.data` would be another one.
    return [shown[number] for number in choose_ratings(shown)]
