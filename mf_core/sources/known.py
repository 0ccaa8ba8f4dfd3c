"""What of a source was loaded before, and how that is recognised.

A part is a file, or the result of a query. It is known by where it lies and how it is read; what
was loaded of it last says whether there is anything new in it.
"""

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from mf_core.redaction import without_query
from mf_core.sources.chunks import printable

Key = tuple[str, str]
"""Where a part lies, and the sha256 of the settings that change how it is read."""

# A file that is written to twice within a tick of the clock may look the same after both.
_SETTLED_AFTER = timedelta(seconds=2)
_LONGEST_PLACE = 1_000
_SHOWN_OF_OTHERS = 200
# How Python encodes names of files that are no text.
_AS_BYTES = "surrogateescape"
# What stores call a version of an object; none has all of them, and some have none.
_VERSIONS = ("ETag", "etag", "e_tag", "generation", "md5Hash", "content_md5", "version_id")


class ReadAllError(Exception):
    """The new parts of a source can't be loaded by themselves; whoever opened it reads all of it.

    The text says why, as the beginning of a sentence.
    """


@dataclass(frozen=True)
class LoadedPart:
    """What was loaded of a part.

    Attributes:
        sha256: its content, unpacked.
        stamp: what tells without a look into it that it is the same; None: nothing does.
        header: how its first line was taken: `header`, `guessed` or empty.
        watermark: of a query, the largest value of its column, as `watermarks` writes it.
    """

    sha256: str
    stamp: str | None = None
    header: str = ""
    watermark: str | None = None

    def is_as_far_as(self, other: "LoadedPart") -> bool:
        """Say whether the same was loaded, whatever it is recognised by."""
        return (self.sha256, self.watermark) == (other.sha256, other.watermark)


@dataclass(frozen=True)
class Known:
    """The parts that are loaded.

    Attributes:
        parts: by where they lie and how they are read.
        by_stamp: whether a stamp is enough, so that such a part is not even fetched.
    """

    parts: Mapping[Key, LoadedPart] = field(default_factory=dict)
    by_stamp: bool = False

    def content_at(self, place: str, stamp: str | None) -> str | None:
        """Return the sha256 of what lies at `place`, if its stamp says so."""
        if stamp is None or not self.by_stamp:
            return None
        return self._contents.get((shown_place(place), stamp))

    @cached_property
    def _contents(self) -> dict[tuple[str, str | None], str]:
        """What lies where, by its stamp; it is the same however it is read."""
        return {(place, part.stamp): part.sha256 for (place, _), part in self.parts.items()}


def shown_place(place: str) -> str:
    """Return a place as it may be stored, which tells it from others.

    Some stores take a query, which may hold a secret, for a part of the name.
    """
    path = printable(without_query(place))
    # An index of Postgres takes no longer ones.
    if path == place and len(path.encode()) <= _LONGEST_PLACE:
        return place
    digest = hashlib.sha256(place.encode(errors=_AS_BYTES))
    return f"{path[:_SHOWN_OF_OTHERS]} {digest.hexdigest()}"


def stamp_of_file(path: Path) -> str | None:
    """Return what changes whenever a local file is written to, or another takes its place."""
    status = os.stat(path)
    newest = max(status.st_mtime, status.st_ctime)
    if time.time() - newest < _SETTLED_AFTER.total_seconds():
        return None
    where = f"{status.st_dev}:{status.st_ino}"
    return f"{status.st_size} bytes, {where}, {status.st_mtime_ns}, {status.st_ctime_ns}"


def stamp_of_object(info: Mapping[str, Any]) -> str | None:
    """Return what a store says of an object that changes whenever its content does.

    Args:
        info: as fsspec gives it.

    Returns:
        None where it names no version: a time may be one of whole seconds, and a size says nothing.
    """
    versions = [f"{name} {info[name]}" for name in _VERSIONS if info.get(name)]
    return ", ".join([f"{info.get('size')} bytes", *versions]) if versions else None
