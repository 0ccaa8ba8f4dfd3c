"""How a text file of ratings is laid out, decided from its name and its first line."""

import csv
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from mf_core.config import SourceConfig
from mf_core.errors import InputError
from mf_core.sources.formats import (
    ATOMIC_TYPE,
    CSV,
    DELIMITERS,
    HEADERLESS_FIELDS,
    MOVIELENS,
    delimiter_name,
    expected_delimiters,
    is_headerless,
)
from mf_core.sources.headers import Columns, find_columns, has_ratings, missing_columns

_FEWEST_FIELDS = 3
_LONGEST_SHOWN = 80
_NUMBER = re.compile(r"^\s*[+-]?[0-9]+(\.[0-9]*)?\s*$")


@dataclass(frozen=True)
class TextLayout:
    """Where the fields of a line are. Positions count from 0; `header_lines` is 0 or 1."""

    delimiter: str
    quoted: bool
    header_lines: int
    n_fields: int
    user: int
    item: int
    rating: int
    time: int | None
    side: int | None


def find_layout(name: str, first_line: str, source: SourceConfig) -> TextLayout:
    """Return the layout of the file `name` whose first line (without its end) is `first_line`.

    Raises:
        InputError: the separator or a column is not there.
    """
    delimiter = _find_delimiter(name, first_line, source)
    fields = split_line(first_line, delimiter)
    columns = [ATOMIC_TYPE.sub("", field.strip().strip('"')) for field in fields]

    found = find_columns(name, columns, source, aliases=source.layout != CSV)
    if has_ratings(found):
        # RecBole's atomic files know no quotes; neither does '::'.
        is_atomic = any(ATOMIC_TYPE.search(field) for field in fields)
        quoted = len(delimiter) == 1 and not is_atomic
        return _with_header(name, delimiter, quoted, columns=columns, found=found, source=source)

    if _may_lack_header(delimiter, source) and _looks_headerless(name, fields, source):
        return _without_header(name, delimiter, len(fields), source)

    missing = ", ".join(missing_columns(found, source))
    raise InputError(
        f"{name}: expected the column(s) {missing} in the first line, "
        f"got {shorten(first_line)} read as {len(fields)} field(s) "
        f"separated by {delimiter_name(delimiter)}. Name the columns with source.user_column, "
        "source.item_column and source.rating_column, the separator with source.delimiter."
    )


def split_line(line: str, delimiter: str) -> list[str]:
    """Return the fields of one line.

    Quotes are understood where the separator is a single character.
    """
    if len(delimiter) > 1:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)


def shorten(text: str) -> str:
    """Return `text` quoted and cut to 80 characters, for messages."""
    if len(text) > _LONGEST_SHOWN:
        text = f"{text[: _LONGEST_SHOWN - 3]}..."
    return repr(text)


def _find_delimiter(name: str, first_line: str, source: SourceConfig) -> str:
    """Return the configured separator, or the one that the first line shows."""
    # A shell or a form passes a tab as the two characters that stand for it.
    configured = source.delimiter.replace("\\t", "\t")
    if configured and configured in first_line:
        return configured

    present = _present_delimiter(first_line)
    if present is not None and not configured:
        return present

    wanted = delimiter_name(configured) if configured else expected_delimiters()
    seen = f"; it looks separated by {delimiter_name(present)}" if present else ""
    raise InputError(
        f"{name}: expected fields separated by {wanted}, "
        f"got the first line {shorten(first_line)}{seen}. "
        "Set source.delimiter (empty: decided from the first line) or correct the file."
    )


def _present_delimiter(first_line: str) -> str | None:
    """Return the separator that the line shows, None if it shows none."""
    candidates = [known.text for known in DELIMITERS if known.text in first_line]

    # An id may hold another separator; the one that makes three fields or more is meant.
    for delimiter in candidates:
        fields = split_line(first_line, delimiter)
        if len(fields) >= _FEWEST_FIELDS:
            return delimiter
    return candidates[0] if candidates else None


def _with_header(
    name: str,
    delimiter: str,
    quoted: bool,
    *,
    columns: list[str],
    found: Columns,
    source: SourceConfig,
) -> TextLayout:
    missing = missing_columns(found, source)
    if missing:
        raise InputError(
            f"{name}: expected every named column once, got no column {', '.join(missing)} in "
            f"{columns}. Check source.*_column."
        )
    at = {role: columns.index(column) for role, column in found.items()}
    return TextLayout(
        delimiter=delimiter,
        quoted=quoted,
        header_lines=1,
        n_fields=len(columns),
        user=at["user"],
        item=at["item"],
        rating=at["rating"],
        time=at.get("time"),
        side=at.get("side"),
    )


def _may_lack_header(delimiter: str, source: SourceConfig) -> bool:
    """Return whether files without a header come with that separator and layout."""
    if source.layout == CSV:
        return False
    return any(known.headerless for known in DELIMITERS if known.text == delimiter)


def _looks_headerless(name: str, fields: list[str], source: SourceConfig) -> bool:
    """Return whether the first line is a rating, by the file's name or by the line itself."""
    if is_headerless(PurePosixPath(name).name):
        return True

    # The time may be absent.
    if len(fields) not in (HEADERLESS_FIELDS - 1, HEADERLESS_FIELDS):
        return False

    # A header has words where these files have a rating and a time.
    has_number = any(_NUMBER.match(field) for field in fields[2:])
    return source.layout == MOVIELENS or has_number


def _without_header(name: str, delimiter: str, n_fields: int, source: SourceConfig) -> TextLayout:
    if source.side_column:
        raise InputError(
            f"{name}: expected a header with the column {source.side_column}, "
            "got a file without one. Empty source.side_column, "
            "or give the test side as a second file (source.test_uri)."
        )
    # A first line that is itself broken must not decide how many fields the known files have.
    if is_headerless(PurePosixPath(name).name):
        n_fields = HEADERLESS_FIELDS
    return TextLayout(
        delimiter=delimiter,
        quoted=False,
        header_lines=0,
        n_fields=n_fields,
        user=0,
        item=1,
        rating=2,
        time=3 if n_fields == HEADERLESS_FIELDS else None,
        side=None,
    )
