"""The configured source as one object: its files, its checksum, its fingerprint and its rows."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from mf_core.config import Config, SourceConfig
from mf_core.errors import InputError
from mf_core.sources.chunks import Chunk, Rules
from mf_core.sources.demo import fetch_ml100k
from mf_core.sources.files import FoundFiles, LocalFile, find_file, find_files, redacted
from mf_core.sources.tables import read_parquet, spool_query
from mf_core.sources.text import read_text

DEMO_URI = "ml-100k"
SQL_URI = "sql"
# Settings that change what the same bytes turn into.
_READING_SETTINGS = (
    "layout",
    "delimiter",
    "user_column",
    "item_column",
    "rating_column",
    "time_column",
    "side_column",
)


@dataclass(frozen=True)
class RatingsFile:
    """One file of ratings, with the side that all its rows are on (None: they say it themselves, or have none)."""

    file: LocalFile
    side: str | None


@dataclass(frozen=True)
class RatingsSource:
    """A source whose files lie here and whose checksum was checked.

    Attributes:
        uri: where it came from, without a password.
        content_sha256: sha256 over the unpacked ratings.
        fingerprint: sha256 over the content and the settings that change how it is read.
        files: the files of ratings, in reading order.
        items: gives the file of items, None if there is none.
        users: gives the file of users, None if there is none.
    """

    uri: str
    content_sha256: str
    fingerprint: str
    files: tuple[RatingsFile, ...]
    items: Callable[[], LocalFile] | None
    users: Callable[[], LocalFile] | None

    def chunks(self, config: Config, now: datetime) -> Iterator[tuple[str, Chunk]]:
        """Yield (file name, chunk of checked rows) through all files. Raises InputError."""
        for part in self.files:
            rules = Rules(config.data.scale_low, config.data.scale_high, now, part.side)
            before = part.file.path.stat()
            reader = read_parquet if _is_parquet(part.file, config.source) else read_text
            for chunk in reader(part.file.path, part.file.name, config.source, rules):
                yield part.file.name, chunk
            after = part.file.path.stat()
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise InputError(
                    f"{part.file.name}: changed while it was read. Load it again once it is complete."
                )


@contextmanager
def open_source(config: Config, environ: Mapping[str, str]) -> Iterator[RatingsSource]:
    """Give the configured source, fetched, unpacked and hashed; temporary files go when the block ends.

    Raises:
        InputError: it is missing, damaged, or has another checksum than `source.sha256`.
        SourceUnavailableError: a remote store did not answer.
        DatabaseError: the source database did not answer.
    """
    with tempfile.TemporaryDirectory(prefix="mf-source-") as folder:
        yield _open(config.source, config, environ, Path(folder))


def _open(
    source: SourceConfig, config: Config, environ: Mapping[str, str], spool: Path
) -> RatingsSource:
    found = _find(source, environ, spool)
    _check_sha256(source, found)
    side = "train" if source.test_uri else None
    files = [RatingsFile(file, side) for file in found.ratings]
    if source.test_uri:
        tests = find_files(source.test_uri, spool).ratings
        files += [RatingsFile(file, "test") for file in tests]
    files = _distinct_names(files)
    hashes = [part.file.sha256 for part in files]
    content = (
        hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    )
    return RatingsSource(
        uri=redacted(source.uri),
        content_sha256=content,
        fingerprint=_fingerprint(files, config),
        files=tuple(files),
        items=_named(source.items_uri, spool) or found.items,
        users=_named(source.users_uri, spool) or found.users,
    )


def _find(source: SourceConfig, environ: Mapping[str, str], spool: Path) -> FoundFiles:
    if source.uri == SQL_URI:
        path = spool / "query.parquet"
        spool_query(source, environ, path)
        file = find_file(str(path), spool)
        return FoundFiles((LocalFile(file.path, "query", file.sha256, file.sha256),), None, None)
    if source.uri == DEMO_URI:
        cache = environ.get("MF_CACHE_DIR") or "~/.cache/mf-retrain"
        return find_files(str(fetch_ml100k(Path(cache).expanduser())), spool)
    return find_files(source.uri, spool)


def _named(uri: str, spool: Path) -> Callable[[], LocalFile] | None:
    return partial(find_file, uri, spool) if uri else None


def _check_sha256(source: SourceConfig, found: FoundFiles) -> None:
    known = {checksum for file in found.ratings for checksum in (file.sha256, file.packed_sha256)}
    if source.sha256 and (len(found.ratings) != 1 or source.sha256 not in known):
        raise InputError(
            f"{redacted(source.uri)}: expected sha256 {source.sha256} (source.sha256), got {' / '.join(sorted(known))}. "
            "The file was changed or damaged; fetch it again or correct the setting."
        )


def _distinct_names(files: list[RatingsFile]) -> list[RatingsFile]:
    """Return `files` under names that tell them apart in `mf.rejected_ratings`."""
    names = [part.file.name for part in files]
    if len(set(names)) == len(names):
        return files
    return [
        RatingsFile(
            LocalFile(p.file.path, f"{number}/{p.file.name}", p.file.sha256, p.file.packed_sha256),
            p.side,
        )
        for number, p in enumerate(files, start=1)
    ]


def _fingerprint(files: list[RatingsFile], config: Config) -> str:
    settings: dict[str, Any] = {name: getattr(config.source, name) for name in _READING_SETTINGS}
    settings["scale"] = [config.data.scale_low, config.data.scale_high]
    settings["files"] = [[part.file.sha256, part.side] for part in files]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _is_parquet(file: LocalFile, source: SourceConfig) -> bool:
    with file.path.open("rb") as opened:
        return source.layout == "parquet" or opened.read(4) == b"PAR1"
