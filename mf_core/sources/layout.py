"""How a text file of ratings is laid out, decided from its name and its first line."""

import csv
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from mf_core.config import SourceConfig
from mf_core.errors import InputError

_DELIMITERS = ("::", "\t", ",", ";", "|")
_FEWEST_FIELDS = 3
_DELIMITER_NAMES = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars", "::": "'::'"}
# The files that come without a header: user, item, rating, epoch seconds.
_HEADERLESS_NAME = re.compile(
    r"^(u\.data|u[0-9a-z]\.(base|test)|r[0-9a-z]\.(train|test)|ratings\.dat)(\.gz)?$", re.IGNORECASE
)
_MOVIELENS_HEADER = ("userId", "movieId", "rating", "timestamp")
_ATOMIC_TYPE = re.compile(r":(token|token_seq|float|float_seq)$")
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
    columns = [_ATOMIC_TYPE.sub("", field.strip()) for field in fields]
    named = _wanted_columns(columns, source)
    if named is not None:
        return _with_header(name, delimiter, fields, columns, named, source)
    if (
        source.layout != "csv"
        and delimiter in ("\t", "::")
        and _looks_headerless(name, fields, source)
    ):
        return _without_header(name, delimiter, len(fields), source)
    wanted = (source.user_column, source.item_column, source.rating_column)
    missing = [column for column in wanted if column not in columns]
    raise InputError(
        f"{name}: expected the column(s) {', '.join(missing)} in the first line, got {shorten(first_line)} read as "
        f"{len(fields)} field(s) separated by {_DELIMITER_NAMES.get(delimiter, repr(delimiter))}. Name the columns with "
        "source.user_column, source.item_column and source.rating_column, the separator with source.delimiter."
    )


def split_line(line: str, delimiter: str) -> list[str]:
    """Return the fields of one line; quotes are understood where the separator is a single character."""
    if len(delimiter) > 1:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)


def shorten(text: str) -> str:
    """Return `text` quoted and cut to 80 characters, for messages."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _find_delimiter(name: str, first_line: str, source: SourceConfig) -> str:
    candidates = [delimiter for delimiter in _DELIMITERS if delimiter in first_line]
    # An id may hold another separator; the one that makes three fields or more is meant.
    enough = [
        delimiter
        for delimiter in candidates
        if len(split_line(first_line, delimiter)) >= _FEWEST_FIELDS
    ]
    present = next(iter(enough + candidates), None)
    expected = source.delimiter.replace("\\t", "\t")
    if expected and expected in first_line:
        return expected
    if expected or present is None:
        wanted = (
            _DELIMITER_NAMES.get(expected, repr(expected))
            if expected
            else "tabs, commas, semicolons or '::'"
        )
        seen = f"; it looks separated by {_DELIMITER_NAMES[present]}" if present else ""
        raise InputError(
            f"{name}: expected fields separated by {wanted}, got the first line {shorten(first_line)}{seen}. "
            "Set source.delimiter (empty: decided from the first line) or correct the file."
        )
    return present


def _wanted_columns(columns: list[str], source: SourceConfig) -> tuple[str, str, str, str] | None:
    """Return the names of the user, item, rating and time columns as the header has them; None if it is no such header."""
    configured = (source.user_column, source.item_column, source.rating_column, source.time_column)
    candidates = [configured] if source.layout == "csv" else [configured, _MOVIELENS_HEADER]
    return next((names for names in candidates if all(name in columns for name in names[:3])), None)


def _with_header(
    name: str,
    delimiter: str,
    fields: list[str],
    columns: list[str],
    named: tuple[str, str, str, str],
    source: SourceConfig,
) -> TextLayout:
    wanted = {*named[:3], *([source.side_column] if source.side_column else [])}
    missing = sorted(wanted - set(columns))
    repeated = sorted(column for column in wanted if columns.count(column) > 1)
    if missing or repeated:
        problem = (
            f"no column {', '.join(missing)}"
            if missing
            else f"the column {', '.join(repeated)} more than once"
        )
        raise InputError(
            f"{name}: expected every named column once, got {problem} in {columns}. Check source.*_column."
        )
    user, item, rating = (columns.index(column) for column in named[:3])
    return TextLayout(
        delimiter=delimiter,
        # RecBole's atomic files know no quotes; neither does '::'.
        quoted=len(delimiter) == 1 and not any(_ATOMIC_TYPE.search(field) for field in fields),
        header_lines=1,
        n_fields=len(columns),
        user=user,
        item=item,
        rating=rating,
        time=columns.index(named[3]) if named[3] in columns else None,
        side=columns.index(source.side_column) if source.side_column else None,
    )


def _looks_headerless(name: str, fields: list[str], source: SourceConfig) -> bool:
    if _HEADERLESS_NAME.match(PurePosixPath(name).name):
        return True
    return len(fields) in (3, 4) and (
        source.layout == "movielens" or any(_NUMBER.match(field) for field in fields[2:])
    )


def _without_header(name: str, delimiter: str, n_fields: int, source: SourceConfig) -> TextLayout:
    if source.side_column:
        raise InputError(
            f"{name}: expected a header with the column {source.side_column}, got a file without one. Empty source.side_column, "
            "or give the test side as a second file (source.test_uri)."
        )
    # A first line that is itself broken must not decide how many fields the known files have.
    n_fields = 4 if _HEADERLESS_NAME.match(PurePosixPath(name).name) else n_fields
    time = 3 if n_fields == 4 else None
    return TextLayout(
        delimiter,
        quoted=False,
        header_lines=0,
        n_fields=n_fields,
        user=0,
        item=1,
        rating=2,
        time=time,
        side=None,
    )
