"""The configured source as one object: its files, its checksum, its fingerprint and its rows."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from mf_core.config import Config, Kind, SourceConfig, uris_in
from mf_core.errors import ConfigError, InputError, ScratchFullError
from mf_core.redaction import redacted
from mf_core.scratch import scratch_folder
from mf_core.sources.chunks import Block, Chunk, Rules, check_rows
from mf_core.sources.demo import fetch_ml100k
from mf_core.sources.files import FoundFiles, find_file, find_files
from mf_core.sources.formats import partition_of
from mf_core.sources.ids import Side, TextIds
from mf_core.sources.local import LocalFile
from mf_core.sources.opening import identity_of
from mf_core.sources.parts import Part, Siblings
from mf_core.sources.queries import find_database, spool_query
from mf_core.sources.reach import (
    DEMO_URI,
    LOCAL_SCHEMES,
    SQL_URI,
    Permit,
    Reach,
    is_chained,
    local_path,
    scheme_of,
)
from mf_core.sources.reading import read_part
from mf_core.sources.spool import Spool, full
from mf_core.sources.times import Clock

_DEFAULT_CACHE = "~/.cache/mf-retrain"
# Settings that change what the same bytes turn into.
_READING_SETTINGS = (
    "layout",
    "encoding",
    "delimiter",
    "user_column",
    "item_column",
    "rating_column",
    "time_column",
    "side_column",
    "ids",
    "not_rated",
    "time_format",
    "time_zone",
)
_READING_EVENTS = ("event_column", "weight_column")
_COLUMNS = (
    "user_column",
    "item_column",
    "rating_column",
    "time_column",
    "side_column",
    *_READING_EVENTS,
)


@dataclass(frozen=True)
class RatingsFile:
    """One file of ratings.

    Attributes:
        file: the file.
        side: the side that all its rows are on; None: they say it themselves, or have none.
        siblings: the files that are one table with it.
        constants: the columns among those that are read which its folders give to all its rows.
    """

    file: LocalFile
    side: str | None
    siblings: Siblings
    constants: Mapping[str, str]


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

    def chunks(self, config: Config, now: datetime) -> Iterator[tuple[str, Chunk]]:
        """Yield (file name, chunk of checked rows) through all files.

        Raises:
            InputError: a file can't be read as ratings, or changed while it was read.
        """
        # One text for one id, in whichever of the files it stands.
        ids = TextIds(lambda: self._ids(config.source), as_text=config.source.ids == "text")
        for one in self.files:
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
    config: Config, environ: Mapping[str, str], reach: Reach | None = None
) -> Iterator[RatingsSource]:
    """Give the configured source, fetched, unpacked and hashed.

    Temporary files go when the block ends.

    Args:
        config: its section `source` is used, and what the data are.
        environ: where the source database's URL and MF_CACHE_DIR are looked up.
        reach: what the source may reach; None: anything, as it is the operator's.

    Raises:
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
    with _spool(reach) as spool:
        yield _open(config.source, config, environ, spool, reach)


def require_kind_fits(config: Config) -> None:
    """Make sure that columns of events are named for events, and their types with weights.

    It is looked at here, and not where settings are read: only now `source.name` has been followed.

    Raises:
        ConfigError: the message names the settings.
    """
    source = config.source
    if config.data.kind == "ratings":
        if named := source.event_column or source.weight_column:
            raise ConfigError(
                f"the source names a column of events ({named}), but data.kind is ratings; set "
                "data.kind=events, or empty source.event_column and source.weight_column."
            )
    elif source.event_column and not config.data.event_weights:
        raise ConfigError(
            f"source.event_column is {source.event_column}, but data.event_weights is empty; say "
            "what each type counts, such as `purchase=1, view=.2`, or `*=1` for all alike."
        )
    elif config.data.event_weights and not source.event_column:
        raise ConfigError(
            "data.event_weights is set, but source.event_column is empty, so each event would "
            "count 1; name the column that holds the types, or empty data.event_weights."
        )


@contextmanager
def _spool(reach: Reach) -> Iterator[Spool]:
    """Give the folder for what is fetched and unpacked."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_folder("mf-source"))
        except OSError as error:
            raise ScratchFullError(full(Path(tempfile.gettempdir()), error)) from None
        yield Spool(folder, reach.limits)


def _open(
    source: SourceConfig, config: Config, environ: Mapping[str, str], spool: Spool, reach: Reach
) -> RatingsSource:
    found = _find(source, environ, spool, reach, config.data.kind)
    _check_sha256(source, found)
    files = _distinct_names(_with_sides(source, found, spool, reach))

    # Metadata that a setting names win over those beside the ratings.
    return RatingsSource(
        uri=redacted(source.uri),
        identity=_identity(source),
        kind=config.data.kind,
        content_sha256=_content_sha256(files),
        fingerprint=_fingerprint(files, config),
        files=tuple(files),
        items=_named(source.items_uri, spool, reach.permit(source, "items_uri")) or found.items,
        users=_named(source.users_uri, spool, reach.permit(source, "users_uri")) or found.users,
        spool=spool,
    )


def _find(
    source: SourceConfig, environ: Mapping[str, str], spool: Spool, reach: Reach, kind: Kind
) -> FoundFiles:
    """Return the local files behind `source.uri`."""
    if source.uri == SQL_URI:
        return _queried(source, environ, spool, reach, kind)
    if source.uri == DEMO_URI:
        cache = Path(environ.get("MF_CACHE_DIR") or _DEFAULT_CACHE)
        folder = fetch_ml100k(cache.expanduser())
        # Always the same data, so anybody may name them.
        return find_files(str(folder), spool, Permit("source.uri"))

    return find_files(source.uri, spool, reach.permit(source, "uri"))


def _queried(
    source: SourceConfig, environ: Mapping[str, str], spool: Spool, reach: Reach, kind: Kind
) -> FoundFiles:
    """Return the result of the query on another database as a file in the spool."""
    database = find_database(source, environ, reach)
    path = spool.new_path("query")
    spool_query(database, source, spool, path, kind)

    file = find_file(str(path), spool, Permit("source.query"))
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
    known = {_joint_sha256([file.sha256 for file in files])}
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


def _content_sha256(files: list[RatingsFile]) -> str:
    """Return the checksum of the only file, or one over the checksums of all files in order."""
    return _joint_sha256([part.file.sha256 for part in files])


def _joint_sha256(hashes: list[str]) -> str:
    """Return the only checksum, or one over all of them in order, one a line."""
    if len(hashes) == 1:
        return hashes[0]
    joined = "\n".join(hashes)
    return hashlib.sha256(joined.encode()).hexdigest()


def _identity(source: SourceConfig) -> str:
    """Return what stays the same from night to night: places, or a query and its database."""
    if source.uri == SQL_URI:
        query = " ".join(source.query.split())
        place = source.connection or source.database_url_env
        return f"{SQL_URI} {place} {hashlib.sha256(query.encode()).hexdigest()[:16]}"
    return "\n".join(_place(uri) for uri in uris_in(source.uri))


def _place(uri: str) -> str:
    """Return one name for a place that has many, as ./plays.csv and file:///data/plays.csv."""
    if uri == DEMO_URI or scheme_of(uri) not in ("", *LOCAL_SCHEMES) or is_chained(uri):
        return redacted(uri)
    return os.path.abspath(local_path(uri))


def _fingerprint(files: list[RatingsFile], config: Config) -> str:
    """Return a hash over the content and over the settings that change how it is read."""
    settings: dict[str, Any] = {
        "scale": [config.data.scale_low, config.data.scale_high],
        "files": [[part.file.sha256, part.side] for part in files],
        "constants": [dict(part.constants) for part in files],
    }
    names = [*_READING_SETTINGS]
    if config.data.kind == "events":
        settings["scale"] = None
        names += _READING_EVENTS
    for name in names:
        settings[name] = getattr(config.source, name)

    identity = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()
