"""What the first bytes of a file say it is: packed, a kind of table, or nothing to read.

This and `formats` are the only modules that name a format. A name may be wrong or missing; the
bytes are not.
"""

import bz2
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

HEAD_BYTES = 1 << 12
"""How much of a file `Table` and `foreign_kind` are decided by."""

BROKEN = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)
"""What the packings raise of a file that is truncated or damaged."""


def _arrow_stream(codec: str, path: Path) -> Any:
    """Open a file that is packed as Arrow knows it."""
    return pa.input_stream(str(path), compression=codec)


@dataclass(frozen=True)
class Packing:
    """What one file may be packed in.

    Attributes:
        shown: what the documentation calls it.
        suffixes: the ends that its name may have.
        magic: the first bytes that its content may have.
        open: opens a path for reading what is in it.
    """

    shown: str
    suffixes: tuple[str, ...]
    magic: tuple[bytes, ...]
    open: Callable[[Path], Any]


# As a text may begin with BZh: how much was packed at a time, and a block or the end of it all.
_BZ2_MAGIC = tuple(
    b"BZh%d%s" % (size, behind) for size in range(1, 10) for behind in (b"1AY&SY", b"\x17rE8P\x90")
)
PACKINGS = (
    Packing("gz", (".gz", ".gzip"), (b"\x1f\x8b",), gzip.open),
    Packing("bz2", (".bz2",), _BZ2_MAGIC, bz2.open),
    Packing("xz", (".xz",), (b"\xfd7zXZ\x00",), lzma.open),
    Packing("zstd", (".zst", ".zstd"), (b"\x28\xb5\x2f\xfd",), partial(_arrow_stream, "zstd")),
    Packing("lz4", (".lz4",), (b"\x04\x22\x4d\x18",), partial(_arrow_stream, "lz4")),
)
ZIP_MAGIC = b"PK\x03\x04"
ZIP_SUFFIX = ".zip"
_PARQUET_MAGIC = b"PAR1"


class Table(Enum):
    """How a file of ratings is read."""

    TEXT = "delimited text"
    JSON_LINES = "JSON lines"
    PARQUET = "Parquet"


@dataclass(frozen=True)
class Foreign:
    """A kind of file that is not read, recognised so that it can be named.

    Attributes:
        shown: what it is.
        pattern: what its first bytes match, from the first one on.
        advice: what to do, as a sentence.
    """

    shown: str
    pattern: re.Pattern[bytes]
    advice: str


def _foreign(shown: str, pattern: bytes, advice: str) -> Foreign:
    """Return a kind of file; a byte order mark and blanks before it do not count."""
    return Foreign(shown, re.compile(rb"(?:\xef\xbb\xbf)?\s*" + pattern, re.DOTALL), advice)


_UNPACK = "Unpack it, and name the file or the folder with what was in it."
_EXPORT = "Export the table as CSV or Parquet, and name that file."
_ADDRESS = "Open the address in a browser: it may want a login, or lead to a page about the file."
FOREIGN = (
    _foreign("an HTML page", rb"(?i:<!doctype html|<html|<head|<body)", _ADDRESS),
    _foreign(
        "an XML document, perhaps an error of a store",
        rb"<\?xml|<Error>",
        "Open it in an editor to see what it says, and fetch the file again.",
    ),
    _foreign(
        "a pointer of Git LFS instead of the file",
        rb"version https://git-lfs",
        "Run `git lfs pull` where it came from.",
    ),
    _foreign("a PDF document", rb"%PDF-", "Get the table that it was made of."),
    # Old Excel, and an encrypted new one.
    _foreign("a document of an old Excel or Word", rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _EXPORT),
    _foreign("a tar archive", rb"(?=[^\0]{1,100}\0.{0,256}ustar).{257}ustar", _UNPACK),
    _foreign("a 7z archive", rb"7z\xbc\xaf\x27\x1c", _UNPACK),
    _foreign("a RAR archive", rb"Rar!\x1a\x07", _UNPACK),
    _foreign("a file packed by compress (.Z)", rb"\x1f\x9d", _UNPACK),
    _foreign(
        "a SQLite database",
        rb"SQLite format 3\0",
        "Query it: source.uri=sql, source.query, and sqlite:///FILE in the variable that "
        "source.database_url_env names.",
    ),
    _foreign("an HDF5 file", rb"\x89HDF\r\n\x1a\n", _EXPORT),
    _foreign("an ORC file", rb"ORC.{0,64}?[\x00-\x08]", _EXPORT),
    _foreign("an Avro file", rb"Obj\x01", _EXPORT),
    _foreign("an Arrow or Feather file", rb"ARROW1\0\0|FEA1\0", _EXPORT),
    _foreign("a NumPy array", rb"\x93NUMPY", _EXPORT),
    _foreign("a Python pickle, which is never loaded", rb"\x80[\x02-\x05][\x8a\x95c}\]]", _EXPORT),
    _foreign("a file of R", rb"RD[AX][23]\n", _EXPORT),
    _foreign(
        "a MatrixMarket file",
        rb"%%MatrixMarket",
        "Remove the lines up to and with the one of the sizes, and set source.layout=headerless.",
    ),
    _foreign(
        "a JSON document, not JSON lines",
        rb"\[\s*[\[\]{]|\{\s*\n",
        "Write one object a line (`jq -c '.[]' FILE`).",
    ),
    _foreign(
        "lines of JSON lists, not of JSON objects",
        rb'\[\s*(?:"|-?[0-9])[^\n]*\]\s*\n',
        "Write one object a line (`jq -c '{user_id: .[0], item_id: .[1], rating: .[2]}' FILE`).",
    ),
    _foreign(
        "lines of Python dictionaries, not of JSON",
        rb"\{\s*u?'",
        "Write each as JSON (json.dumps(ast.literal_eval(line))).",
    ),
)
# A zip is looked into by the names of its members.
_OFFICE = (
    ("xl/workbook", "an Excel workbook", "Save its sheet as CSV, and name that file."),
    ("word/document", "a Word document", "Get the table that it was made of."),
    ("content.xml", "an OpenDocument file", "Save its sheet as CSV, and name that file."),
)


def packing_of(head: bytes) -> Packing | None:
    """Return what a file is packed in, None if it is not."""
    return next((kind for kind in PACKINGS if head.startswith(kind.magic)), None)


def foreign_kind(head: bytes) -> Foreign | None:
    """Return what a file is that can't be read as a table of ratings, None if it may be one."""
    return next((kind for kind in FOREIGN if kind.pattern.match(head)), None)


def foreign_zip(members: Sequence[str]) -> tuple[str, str] | None:
    """Return what a zip is that holds a document, with what to do; None for any other."""
    for beginning, shown, advice in _OFFICE:
        if any(member.startswith(beginning) for member in members):
            return shown, advice
    return None


def foreign_kinds() -> Iterator[tuple[str, str]]:
    """Yield each kind of file that is recognised and not read, with what to do."""
    for kind in FOREIGN:
        yield kind.shown, kind.advice
    for _, shown, advice in _OFFICE:
        yield shown, advice


def is_parquet(head: bytes) -> bool:
    """Say whether a file is Parquet."""
    return head.startswith(_PARQUET_MAGIC)


def is_json_lines(head: bytes) -> bool:
    """Say whether a text in UTF-8 is JSON lines: its first line is an object, or begins one."""
    line, end, _ = head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    if not line.startswith(b"{"):
        return False
    # An id may begin with a brace too: {3F2504E0-...}.
    if not end:
        return re.match(rb'\{\s*["}]', line) is not None
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return re.match(rb'\{\s*"[^"]*"\s*:', line) is not None


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file, as many as kinds are decided by."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)
