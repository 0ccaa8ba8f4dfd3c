"""Items and users: MovieLens' metadata files, RecBole's atomic files, or any table with an id.

The titles are untrusted text; nothing here interprets them. MovieLens' older files are latin-1, so
that is the fallback.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mf_core.config import SourceConfig
from mf_core.errors import InputError
from mf_core.sources.chunks import MAX_ID_LENGTH
from mf_core.sources.formats import (
    ATOMIC_TYPE,
    DELIMITERS,
    ITEMS_1M,
    ITEMS_100K,
    USERS_1M,
    USERS_100K,
    HeaderlessTable,
)
from mf_core.sources.layout import shorten, split_line
from mf_core.sources.local import LocalFile

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
_ITEM_IDS = ("item_id", "itemId", "movieId", "movie_id", "item", "id")
_USER_IDS = ("user_id", "userId", "UserID", "user", "id")
_TITLES = ("title", "movie_title", "item_title", "name")
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


@dataclass(frozen=True)
class Metadata:
    """The rows of one file, one per id (the last one wins), and how many lines were not usable."""

    rows: tuple[MetadataRow, ...]
    skipped: int


def read_items(file: LocalFile, source: SourceConfig) -> Metadata:
    """Return the items of `file`.

    Raises:
        InputError: it is empty, or neither a known layout nor a table with an id column.
    """
    text = _text(file)
    if file.name == ITEMS_100K.name:
        rows = _headerless_rows(text, ITEMS_100K, _item_100k)
    elif file.name == ITEMS_1M.name:
        rows = _headerless_rows(text, ITEMS_1M, _item_1m)
    else:
        id_columns = (source.item_column, *_ITEM_IDS)
        rows = _table_rows(text, file.name, id_columns, item=True)
    return _collect(file.name, rows)


def read_users(file: LocalFile, source: SourceConfig) -> Metadata:
    """Return the users of `file`. Raises as `read_items` does."""
    text = _text(file)
    if file.name == USERS_100K.name:
        rows = _headerless_rows(text, USERS_100K, _user_100k)
    elif file.name == USERS_1M.name:
        rows = _headerless_rows(text, USERS_1M, _user_1m)
    else:
        id_columns = (source.user_column, *_USER_IDS)
        rows = _table_rows(text, file.name, id_columns, item=False)
    return _collect(file.name, rows)


def _text(file: LocalFile) -> str:
    with file.reading() as path:
        data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")

    if not text.strip():
        raise InputError(
            f"{file.name}: expected items or users, got an empty file. "
            "Check source.items_uri and source.users_uri."
        )
    # Postgres' text and jsonb hold no NUL.
    return text.replace("\0", "").replace("\r\n", "\n")


def _collect(name: str, rows: Iterator[MetadataRow | None]) -> Metadata:
    """Return the rows that can be stored; None stands for a line that could not be split."""
    found: dict[str, MetadataRow] = {}
    skipped = 0
    try:
        for row in rows:
            if row is None or not row.id.strip() or len(row.id) > MAX_ID_LENGTH:
                skipped += 1
            else:
                found[row.id] = row
    except csv.Error as error:
        raise InputError(
            f"{name}: expected a table of items or users, but it can't be split: {error}. "
            "Check its quotes."
        ) from None
    return Metadata(tuple(found.values()), skipped)


def _headerless_rows(
    text: str, table: HeaderlessTable, parse: Callable[[list[str]], MetadataRow]
) -> Iterator[MetadataRow | None]:
    """Yield each line as a row; None for one with more or fewer fields than the table has."""
    lines = text.rstrip("\n").split("\n")
    for line in lines:
        fields = line.split(table.delimiter)
        if len(fields) == table.n_fields:
            yield parse(fields)
        else:
            yield None


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


def _table_rows(
    text: str, name: str, id_columns: tuple[str, ...], *, item: bool
) -> Iterator[MetadataRow | None]:
    """Yield the rows of a table with a header.

    The first of `id_columns` that the table has is the id.
    """
    first_line = text.partition("\n")[0]
    present = (known.text for known in DELIMITERS if known.text in first_line)
    # A table of one column shows no separator.
    delimiter = next(present, ",")
    columns = [ATOMIC_TYPE.sub("", field.strip()) for field in split_line(first_line, delimiter)]

    id_column = next((column for column in id_columns if column in columns), None)
    if id_column is None:
        kind = "item" if item else "user"
        raise InputError(
            f"{name}: expected a header with the column {id_columns[0]}, "
            f"got {shorten(first_line)}. "
            f"Name it with source.{kind}_column, or empty source.{kind}s_uri."
        )

    # RecBole's atomic files know no quotes; neither does '::'.
    is_atomic = bool(ATOMIC_TYPE.search(first_line.split("\t")[0]))
    quoted = len(delimiter) == 1 and not is_atomic
    for fields in _records(text, delimiter, quoted=quoted):
        if len(fields) == len(columns):
            values = dict(zip(columns, fields, strict=True))
            yield _table_row(values, id_column, item=item)
        else:
            yield None


def _records(text: str, delimiter: str, *, quoted: bool) -> Iterator[list[str]]:
    """Yield the fields of each line after the header; an empty line is no record."""
    if quoted:
        # newline="" keeps the line breaks of quoted fields as they are.
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        next(rows)
        yield from (row for row in rows if row)
    else:
        for line in text.split("\n")[1:]:
            if line:
                yield line.split(delimiter)


def _table_row(values: dict[str, str], id_column: str, *, item: bool) -> MetadataRow:
    """Return one row of a table, given by column; what is no id and no title is an attribute."""
    row_id = values.pop(id_column)
    title = None
    if item:
        title_column = next((column for column in _TITLES if column in values), None)
        title = values.pop(title_column) if title_column else None

    attributes: dict[str, Any] = {}
    for column, value in values.items():
        if column in _GENRES:
            attributes["genres"] = _column_genres(column, value)
        else:
            attributes[_RENAMED.get(column, column)] = _column_value(column, value)

    # MovieLens writes the year into the title.
    if title and "year" not in attributes:
        attributes["year"] = _year(title)
    return MetadataRow(row_id, title or None, _known(attributes))


def _column_genres(column: str, value: str) -> list[str]:
    """Return the genres in a column."""
    # RecBole's `class` is a sequence of words.
    if column == "class":
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
