"""The configured source as one object: its files, its checksum, its fingerprint and its rows."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from mf_core.config import Config, Kind, SourceConfig
from mf_core.errors import InputError, ScratchFullError
from mf_core.redaction import redacted
from mf_core.scratch import scratch_folder
from mf_core.sources.chunks import Block, Chunk, Rules, check_rows
from mf_core.sources.demo import fetch_ml100k
from mf_core.sources.files import FoundFiles, find_file, find_files
from mf_core.sources.formats import partition_of
from mf_core.sources.identity import (
    READING_EVENTS,
    fingerprint_of,
    identity_of_source,
    joint_sha256,
    reading_of,
)
from mf_core.sources.ids import Side, TextIds
from mf_core.sources.kinds import require_kind_fits
from mf_core.sources.known import Key, Known, LoadedPart, ReadAllError, shown_place
from mf_core.sources.local import LocalFile
from mf_core.sources.opening import identity_of
from mf_core.sources.parts import Part, Siblings
from mf_core.sources.queries import find_database, place_of, spool_query
from mf_core.sources.reach import (
    DEMO_URI,
    SQL_URI,
    Permit,
    Reach,
)
from mf_core.sources.reading import read_part
from mf_core.sources.spool import Spool, full
from mf_core.sources.times import Clock

_DEFAULT_CACHE = "~/.cache/mf-retrain"
_COLUMNS = (
    "user_column",
    "item_column",
    "rating_column",
    "time_column",
    "side_column",
    *READING_EVENTS,
)


@dataclass(frozen=True)
class RatingsFile:
    """One file of ratings.

    Attributes:
        file: the file.
        side: the side that all its rows are on; None: they say it themselves, or have none.
        siblings: the files that are one table with it.
        constants: the columns among those that are read which its folders give to all its rows.
        key: what it is known by once it is loaded; None: it has no place, as on the web.
        is_loaded: its rows are in the warehouse, so that it is not read.
    """

    file: LocalFile
    side: str | None
    siblings: Siblings
    constants: Mapping[str, str]
    key: Key | None = None
    is_loaded: bool = False

    def as_loaded(self) -> LoadedPart:
        """Return what is to be known of it once it is loaded."""
        header = self.siblings.headers.get(self.file.name, "")
        return LoadedPart(self.file.sha256, self.file.stamp, header, self.file.watermark)


@dataclass(frozen=True)
class RatingsSource:
    """A source whose files lie here and whose checksum was checked.

    Attributes:
        uri: where it came from, without a password.
        identity: what tells it from other sources of events, whatever it holds tonight.
        kind: what its rows are.
        content_sha256: sha256 over the unpacked ratings.
        fingerprint: sha256 over the content and the settings that change how it is read.
        files: the files of ratings, in reading order.
        items: gives the file of items, None if there is none.
        users: gives the file of users, None if there is none.
        spool: where fetched and unpacked files lie.
    """

    uri: str
    identity: str
    kind: Kind
    content_sha256: str
    fingerprint: str
    files: tuple[RatingsFile, ...]
    items: Callable[[], LocalFile] | None
    users: Callable[[], LocalFile] | None
    spool: Spool

    @property
    def is_whole(self) -> bool:
        """Whether all rows are read, and none is known to be loaded before."""
        return not any(one.is_loaded or one.file.is_partial for one in self.files)

    @property
    def reads_before_loaded(self) -> bool:
        """Whether a file that is read stands before one that is not, whose lines count as later."""
        loaded = [one.is_loaded for one in self.files]
        return True in loaded[loaded.index(False) :] if False in loaded else False

    def chunks(self, config: Config, now: datetime) -> Iterator[tuple[str, Chunk]]:
        """Yield (file name, chunk of checked rows) through the files that are read.

        Raises:
            InputError: a file can't be read as ratings, or changed while it was read.
            ReadAllError: how a file is read hangs on those that are not.
        """
        # One text for one id, in whichever of the files it stands.
        ids = TextIds(lambda: self._ids(config.source), as_text=config.source.ids == "text")
        for one in self.files:
            if one.is_loaded:
                continue
            rules = Rules(
                scale_low=config.data.scale_low,
                scale_high=config.data.scale_high,
                clock=Clock(now, config.source.time_zone, config.source.time_format),
                # Of events, no rating is read.
                not_rated=config.source.not_rated if self.kind == "ratings" else None,
                side=one.side,
                kind=self.kind,
            )
            for block in self._blocks(one, config.source, again=False):
                yield one.file.name, check_rows(block, rules, ids)

    def _ids(self, source: SourceConfig) -> Iterator[dict[Side, Any]]:
        """Yield the ids of all files, block by block."""
        if not self.is_whole:
            raise ReadAllError("ids are written as floats, which all ids together tell of")
        for one in self.files:
            for block in self._blocks(one, source, again=True):
                yield {"user": block.rows.user, "item": block.rows.item}

    def _blocks(self, one: RatingsFile, source: SourceConfig, *, again: bool) -> Iterator[Block]:
        """Yield the blocks of one file. Raises InputError if it changes meanwhile."""
        with one.file.reading() as path:
            # The checksum was taken before. It says nothing of a file that is still written to.
            before = identity_of(path)
            part = Part(path, one.file.name, one.constants, one.siblings, self.kind)
            yield from read_part(part, source, self.spool, again=again)
            if identity_of(path) != before:
                raise InputError(
                    f"{one.file.name}: changed while it was read. "
                    "Load it again once it is complete."
                )


@contextmanager
def open_source(
    config: Config,
    environ: Mapping[str, str],
    reach: Reach | None = None,
    known: Known | None = None,
) -> Iterator[RatingsSource]:
    """Give the configured source, fetched, unpacked and hashed.

    Temporary files go when the block ends.

    Args:
        config: its section `source` is used, and what the data are.
        environ: where the source database's URL and MF_CACHE_DIR are looked up.
        reach: what the source may reach; None: anything, as it is the operator's.
        known: what of it is loaded, and need not be read; None: nothing.

    Raises:
        ReadAllError: only some of it is known, and can't be told from the rest.
        InputError: it is missing, damaged, or has another checksum than `source.sha256`.
        ConfigError: it is beyond what whoever named it may reach, or its columns are not those of
            what the data are.
        SourceUnavailableError: a remote store did not answer.
        DatabaseError: the source database did not answer.
        ScratchFullError: the temporary folder is full.
    """
    require_kind_fits(config)
    reach = reach or Reach()
    reach.judge(config)
    known = known or Known()
    if config.source.sha256:
        # What is checked has to be fetched.
        known = replace(known, by_stamp=False)
    with _spool(reach, known) as spool:
        yield _open(config.source, config, environ, spool, reach)


@contextmanager
def _spool(reach: Reach, known: Known) -> Iterator[Spool]:
    """Give the folder for what is fetched and unpacked."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_folder("mf-source"))
        except OSError as error:
            raise ScratchFullError(full(Path(tempfile.gettempdir()), error)) from None
        yield Spool(folder, reach.limits, known)


def _open(
    source: SourceConfig, config: Config, environ: Mapping[str, str], spool: Spool, reach: Reach
) -> RatingsSource:
    found = _find(source, config, environ, spool, reach)
    _check_sha256(source, found)
    files = _distinct_names(_with_sides(source, found, spool, reach))
    files = [_known(one, config, spool.known) for one in files]

    # Metadata that a setting names win over those beside the ratings.
    return RatingsSource(
        uri=redacted(source.uri),
        identity=identity_of_source(source),
        kind=config.data.kind,
        content_sha256=joint_sha256([one.file.sha256 for one in files]),
        fingerprint=_fingerprint(files, config),
        files=tuple(files),
        items=_named(source.items_uri, spool, reach.permit(source, "items_uri")) or found.items,
        users=_named(source.users_uri, spool, reach.permit(source, "users_uri")) or found.users,
        spool=spool,
    )


def _known(one: RatingsFile, config: Config, known: Known) -> RatingsFile:
    """Return a file with what it is known by, and whether it is loaded."""
    if not one.file.place:
        return one
    key = (shown_place(one.file.place), reading_of(config, one.side, one.constants))
    part = known.parts.get(key)
    is_loaded = part is not None and part.sha256 == one.file.sha256
    if part is not None and is_loaded:
        one.siblings.meet(
            one.file.name, has_header=part.header == "header", guessed=part.header == "guessed"
        )
    elif one.file.is_absent:
        raise ReadAllError(f"{one.file.name} was loaded with other settings")
    return replace(one, key=key, is_loaded=is_loaded)


def _find(
    source: SourceConfig, config: Config, environ: Mapping[str, str], spool: Spool, reach: Reach
) -> FoundFiles:
    """Return the local files behind `source.uri`."""
    if source.uri == SQL_URI:
        return _queried(source, config, environ, spool, reach)
    if source.uri == DEMO_URI:
        cache = Path(environ.get("MF_CACHE_DIR") or _DEFAULT_CACHE)
        folder = fetch_ml100k(cache.expanduser())
        # Always the same data, so anybody may name them.
        return find_files(str(folder), spool, Permit("source.uri"))

    return find_files(source.uri, spool, reach.permit(source, "uri"))


def _queried(
    source: SourceConfig, config: Config, environ: Mapping[str, str], spool: Spool, reach: Reach
) -> FoundFiles:
    """Return the result of the query on another database as a file in the spool.

    Of a query that was loaded before, these are the rows since its watermark.
    """
    database = find_database(source, environ, reach)
    path = spool.new_path("query")
    place = place_of(database, source)
    side = "train" if source.test_uri else None
    loaded = spool.known.parts.get((place, reading_of(config, side, {})))
    since = loaded.watermark if loaded else None
    watermark = spool_query(database, source, spool, path, config.data.kind, since=since)

    file = find_file(str(path), spool, Permit("source.query"))
    # Rows without a value, and none at all, leave it where it was.
    file = replace(
        file,
        place=place,
        stamp=None,
        watermark=watermark or since,
        is_partial=since is not None,
    )
    return FoundFiles(ratings=((file,),))


def _named(uri: str, spool: Spool, permit: Permit) -> Callable[[], LocalFile] | None:
    """Return what reads the file that a setting names, None if it is empty."""
    if not uri:
        return None
    return partial(find_file, uri, spool, permit)


def _check_sha256(source: SourceConfig, found: FoundFiles) -> None:
    if not source.sha256:
        return

    # The setting may hold the checksum of the packed file or that of its content; of several files,
    # that of the list of theirs, or that of the zip that holds them.
    files = [file for part in found.ratings for file in part]
    known = {joint_sha256([file.sha256 for file in files])}
    packed = {file.packed_sha256 for file in files}
    if len(packed) == 1:
        known |= packed
    if source.sha256 not in known:
        raise InputError(
            f"{redacted(source.uri)}: expected sha256 {source.sha256} (source.sha256), "
            f"got {' / '.join(sorted(known))}. "
            "The file was changed or damaged; fetch it again or correct the setting."
        )


def _with_sides(
    source: SourceConfig, found: FoundFiles, spool: Spool, reach: Reach
) -> list[RatingsFile]:
    """Return the files of ratings, and those of the test side behind them if there are any."""
    if not source.test_uri:
        return _ratings_files(found, None, source)

    tests = find_files(source.test_uri, spool, reach.permit(source, "test_uri"))

    # In this order, which the checksum of the content depends on.
    train_side = _ratings_files(found, "train", source)
    return train_side + _ratings_files(tests, "test", source)


def _ratings_files(found: FoundFiles, side: str | None, source: SourceConfig) -> list[RatingsFile]:
    """Return the files of one side, each with what it shares with others."""
    named = {getattr(source, column) for column in _COLUMNS} - {""}
    files = []
    for together in found.ratings:
        siblings = Siblings(several=len(together) > 1)
        for file in together:
            columns = partition_of(file.place)
            constants = {name: columns[name] for name in columns if name in named}
            files.append(RatingsFile(file, side, siblings, constants))
    return files


def _distinct_names(files: list[RatingsFile]) -> list[RatingsFile]:
    """Return `files` under names that tell them apart in `mf.rejected_ratings`.

    Names that are distinct already stay as they are.
    """
    names = {part.file.name for part in files}
    if len(names) == len(files):
        return files

    numbered = []
    for number, part in enumerate(files, start=1):
        file = replace(part.file, name=f"{number}/{part.file.name}")
        numbered.append(replace(part, file=file))
    return numbered


def _fingerprint(files: list[RatingsFile], config: Config) -> str:
    """Return a hash over the content and over the settings that change how it is read."""
    return fingerprint_of(
        config,
        files=[[one.file.sha256, one.side] for one in files],
        constants=[dict(one.constants) for one in files],
    )
