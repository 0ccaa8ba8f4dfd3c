"""Items and users: MovieLens' metadata files, RecBole's atomic files, or any table with an id.

The titles are untrusted text; nothing here interprets them. MovieLens' older files are latin-1, so
that is the fallback where `source.encoding` says nothing else. Ids are read as those of ratings
are.
"""

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from mf_core.config import SourceConfig
from mf_core.errors import InputError
from mf_core.sources.chunks import printable
from mf_core.sources.formats import (
    ATOMIC_TYPE,
    DELIMITERS,
    ITEMS_1M,
    ITEMS_100K,
    USERS_1M,
    USERS_100K,
    HeaderlessTable,
)
from mf_core.sources.headers import ITEM_NAMES, USER_NAMES, find_column, same_name
from mf_core.sources.ids import Side, TextIds, check_ids, plain_texts
from mf_core.sources.layout import shorten, split_line
from mf_core.sources.lines import Record, split_record
from mf_core.sources.local import LocalFile
from mf_core.sources.plain import UTF_8, marked_encoding

# The flags of u.item, in the order of its fields.
_UNKNOWN_GENRE = "unknown"
_GENRES_100K = (
    _UNKNOWN_GENRE,
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
# What other people's tables call the same columns, best first.
_TITLES = ("title", "movietitle", "itemtitle", "name")
_GENRES = ("genres", "genre", "class")
_NUMBERS = ("age", "year", "release_year")
_RENAMED = {"release_year": "year", "zip_code": "zip"}

_GENRE_SEPARATOR = "|"
_NO_GENRES = "(no genres listed)"
_YEAR = re.compile(r"\((\d{4})\)\s*$")
_SHORT_INTEGER = re.compile(r"-?[0-9]{1,9}")


@dataclass(frozen=True)
class MetadataRow:
    """One item or user.

    Attributes:
        id: its external id.
        title: its title (items only), None if it is unknown.
        attributes: whatever else the source says of it.
    """

    id: str
    title: str | None
    attributes: dict[str, Any]


Parse = Callable[[list[str]], MetadataRow]
"""Makes a row of the fields of a line."""


@dataclass(frozen=True)
class Metadata:
    """The rows of one file, one per id (the last one wins), and how many lines were not usable.

    `notes` is what people should know of it.
    """

    rows: tuple[MetadataRow, ...]
    skipped: int
    notes: tuple[str, ...] = ()


def read_items(file: LocalFile, source: SourceConfig) -> Metadata:
    """Return the items of `file`.

    Raises:
        InputError: it is empty, or neither a known layout nor a table with an id column.
    """
    return _read(file, source, "item", {ITEMS_100K: _item_100k, ITEMS_1M: _item_1m})


def read_users(file: LocalFile, source: SourceConfig) -> Metadata:
    """Return the users of `file`. Raises as `read_items` does."""
    return _read(file, source, "user", {USERS_100K: _user_100k, USERS_1M: _user_1m})


@dataclass(frozen=True)
class _Table:
    """How a file is split, where its ids are, and what becomes of the fields of a line."""

    delimiter: str
    quoted: bool
    n_fields: int
    header_lines: int
    id_at: int
    parse: Parse


def _read(
    file: LocalFile, source: SourceConfig, side: Side, known: Mapping[HeaderlessTable, Parse]
) -> Metadata:
    lines = _lines(file, source.encoding)
    named = [headerless for headerless in known if headerless.name == file.name]
    if named:
        [headerless] = named
        n_fields, parse = headerless.n_fields, known[headerless]
        table = _Table(headerless.delimiter, False, n_fields, 0, 0, parse)
    else:
        table = _with_header(file.name, lines[0].decode(errors="replace"), source, side)
    return _collect(file.name, _records(lines, table), table, side, source)


def _lines(file: LocalFile, encoding: str) -> list[bytes]:
    """Return the lines of a file without their ends, as UTF-8 but for broken ones."""
    with file.reading() as path:
        data = path.read_bytes()
    is_utf8 = codecs.lookup(encoding).name == UTF_8
    wide = marked_encoding(data) or ("" if is_utf8 or b"\0" not in data else encoding)
    if wide:
        data = data.decode(wide, errors="replace").removeprefix("\ufeff").encode()

    # Postgres' text and jsonb hold no NUL.
    data = data.replace(b"\0", b"").replace(b"\r\n", b"\n").rstrip(b"\r\n ")
    # As old Macs and some exports end them.
    lines = data.split(b"\n" if b"\n" in data else b"\r")
    if lines == [b""]:
        raise InputError(
            f"{file.name}: expected items or users, got an empty file. "
            "Check source.items_uri and source.users_uri."
        )
    # One broken line makes no file in another encoding.
    beyond_ascii = [line for line in lines if not line.isascii()]
    n_utf8 = sum(_is_utf8(line) for line in beyond_ascii)
    if 2 * n_utf8 < len(beyond_ascii):
        other = "latin-1" if is_utf8 else encoding
        return [line.decode(other, errors="replace").encode() for line in lines]
    return lines


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _with_header(name: str, first_line: str, source: SourceConfig, side: Side) -> _Table:
    """Return how a table with a header is read."""
    present = (known.text for known in DELIMITERS if known.text in first_line)
    # A table of one column shows no separator.
    delimiter = next(present, ",")
    fields = split_line(first_line, delimiter)
    columns = [ATOMIC_TYPE.sub("", field.strip().strip('"')) for field in fields]

    named = source.item_column if side == "item" else source.user_column
    aliases = ITEM_NAMES if side == "item" else USER_NAMES
    id_column = find_column(name, columns, (named, *aliases, "id"))
    if id_column is None:
        raise InputError(
            f"{name}: expected a header with the column {named}, "
            f"got {shorten(first_line)}. "
            f"Name it with source.{side}_column, or empty source.{side}s_uri."
        )

    def parse(fields: list[str]) -> MetadataRow:
        """Return a line as a row."""
        values = dict(zip(columns, fields, strict=True))
        return _table_row(values, id_column, item=side == "item")

    # RecBole's atomic files know no quotes; neither does '::'.
    is_atomic = any(ATOMIC_TYPE.search(field) for field in fields)
    quoted = len(delimiter) == 1 and not is_atomic
    return _Table(delimiter, quoted, len(columns), 1, columns.index(id_column), parse)


def _records(lines: list[bytes], table: _Table) -> Iterator[tuple[int, Record]]:
    """Yield each record with the number of its line, from 1; an empty line is none."""
    at = table.header_lines
    while at < len(lines):
        record = split_record(lines, at, table)
        if lines[at].strip():
            yield at + 1, record
        at += record.n_lines


def _collect(
    name: str,
    records: Iterator[tuple[int, Record]],
    table: _Table,
    side: Side,
    source: SourceConfig,
) -> Metadata:
    """Return the rows that can be stored, and how many lines are none."""
    good: list[tuple[int, list[str]]] = []
    bad: list[tuple[int, str]] = []
    for line, record in records:
        if record.problem:
            bad.append((line, record.problem))
        else:
            good.append((line, record.fields))

    given = pa.array([fields[table.id_at] for _, fields in good], type=pa.string())
    plain = plain_texts(given, unquote=not table.quoted)
    reader = TextIds(lambda: iter([{"user": plain, "item": plain}]), as_text=source.ids == "text")
    ids, problems = reader.read(plain, side)
    problems = [*check_ids(ids, side), *problems]
    found: dict[str, MetadataRow] = {}
    for i, (row_id, (line, fields)) in enumerate(zip(ids.to_pylist(), good, strict=True)):
        reason = next((problem.reason(i) for problem in problems if problem.mask[i]), "")
        if reason:
            bad.append((line, reason))
        else:
            fields[table.id_at] = row_id
            found[row_id] = table.parse(fields)
    return Metadata(tuple(found.values()), len(bad), tuple(_notes(name, bad, reader)))


def _notes(name: str, bad: list[tuple[int, str]], ids: TextIds) -> Iterator[str]:
    """Yield what people should know of a file."""
    for note in ids.notes():
        yield f"{name}: {note}"
    if bad:
        line, reason = min(bad)
        yield f"{name}: {len(bad):,} lines skipped, the first is line {line}: {printable(reason)}"


def _item_100k(fields: list[str]) -> MetadataRow:
    """Return a line of u.item; its unused field is the release date of the video."""
    item_id, title, release_date, _, url, *flags = fields

    # A flag per genre.
    flagged = [name for name, flag in zip(_GENRES_100K, flags, strict=True) if flag == "1"]
    attributes = {
        "genres": [name for name in flagged if name != _UNKNOWN_GENRE],
        "year": _year(title),
        "release_date": _iso_date(release_date),
        "imdb_url": url or None,
    }
    return MetadataRow(item_id, title, _known(attributes))


def _item_1m(fields: list[str]) -> MetadataRow:
    """Return a line of movies.dat: id, title with the year, genres."""
    item_id, title, genres = fields
    attributes = {
        "genres": _genres(genres),
        "year": _year(title),
    }
    return MetadataRow(item_id, title, _known(attributes))


def _user_100k(fields: list[str]) -> MetadataRow:
    """Return a line of u.user."""
    user_id, age, gender, occupation, zip_code = fields
    return _user(
        user_id,
        age=age,
        gender=gender,
        occupation=occupation,
        zip_code=zip_code,
    )


def _user_1m(fields: list[str]) -> MetadataRow:
    """Return a line of users.dat: the fields of u.user in another order."""
    user_id, gender, age, occupation, zip_code = fields
    return _user(
        user_id,
        age=age,
        gender=gender,
        occupation=occupation,
        zip_code=zip_code,
    )


def _user(user_id: str, *, age: str, gender: str, occupation: str, zip_code: str) -> MetadataRow:
    """Return a user of either data set. A zip code is text: it may begin with 0."""
    attributes = {
        "age": _number(age),
        "gender": gender,
        "occupation": occupation,
        "zip": zip_code,
    }
    return MetadataRow(user_id, None, _known(attributes))


def _table_row(values: dict[str, str], id_column: str, *, item: bool) -> MetadataRow:
    """Return one row of a table, given by column; what is no id and no title is an attribute."""
    row_id = values.pop(id_column)
    title = None
    if item:
        title_column = _title_column(values)
        title = values.pop(title_column) if title_column else None

    attributes: dict[str, Any] = {}
    for column, value in values.items():
        if same_name(column) in _GENRES:
            attributes["genres"] = _column_genres(column, value)
        else:
            attributes[_RENAMED.get(column, column)] = _column_value(column, value)

    # MovieLens writes the year into the title.
    if title and "year" not in attributes:
        attributes["year"] = _year(title)
    return MetadataRow(row_id, title or None, _known(attributes))


def _title_column(columns: Iterable[str]) -> str | None:
    """Return the column that holds the title, None if none does."""
    by_name = {same_name(column): column for column in columns}
    return next((by_name[title] for title in _TITLES if title in by_name), None)


def _column_genres(column: str, value: str) -> list[str]:
    """Return the genres in a column."""
    # RecBole's `class` is a sequence of words.
    if same_name(column) == "class":
        return _genres(value, separator=" ")
    return _genres(value)


def _column_value(column: str, value: str) -> int | str | None:
    """Return the value of any other column, None for an empty one."""
    if column in _NUMBERS:
        return _number(value)
    return value or None


def _genres(text: str, separator: str = _GENRE_SEPARATOR) -> list[str]:
    """Return the genres in a text; an item without any has an empty list, which is known."""
    if text == _NO_GENRES:
        return []
    genres = text.split(separator)
    return [genre for genre in genres if genre]


def _year(title: str) -> int | None:
    """Return the year in brackets at the end of a title, None if there is none."""
    match = _YEAR.search(title)
    if match is None:
        return None
    return int(match[1])


def _iso_date(text: str) -> str | None:
    try:
        return datetime.strptime(text, "%d-%b-%Y").date().isoformat()
    except ValueError:
        return None


def _number(text: str) -> int | str | None:
    """Return a whole number as one, another text as it is, None for an empty one."""
    if _SHORT_INTEGER.fullmatch(text):
        return int(text)
    return text or None


def _known(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that have a value."""
    known = {}
    for name, value in attributes.items():
        if value is not None:
            known[name] = value
    return known
