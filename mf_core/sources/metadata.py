"""Items and users: MovieLens' metadata files, RecBole's atomic files, or any table with a header and an id column.

The titles are untrusted text; nothing here interprets them. MovieLens' older files are latin-1, so that is the fallback.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mf_core.config import SourceConfig
from mf_core.errors import InputError
from mf_core.sources.chunks import MAX_ID_LENGTH
from mf_core.sources.files import LocalFile
from mf_core.sources.layout import shorten, split_line

_GENRES_100K = (
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *(
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ),
)
_ITEM_IDS = ("item_id", "itemId", "movieId", "movie_id", "item", "id")
_USER_IDS = ("user_id", "userId", "UserID", "user", "id")
_TITLES = ("title", "movie_title", "item_title", "name")
_GENRES = ("genres", "genre", "class")
_NUMBERS = ("age", "year", "release_year")
_TYPE = re.compile(r":(token|token_seq|float|float_seq)$")
_YEAR = re.compile(r"\((\d{4})\)\s*$")


@dataclass(frozen=True)
class MetadataRow:
    """One item or user: its id, its title (items only, None: unknown) and whatever else the source says of it."""

    id: str
    title: str | None
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Metadata:
    """The rows of one file, one per id (the last one wins), and how many lines could not be used."""

    rows: tuple[MetadataRow, ...]
    skipped: int


def read_items(file: LocalFile, source: SourceConfig) -> Metadata:
    """Return the items of `file`. Raises InputError if it is empty, or neither a known layout nor a table with an id column."""
    lines = _lines(file)
    if file.name == "u.item":
        return _collect(file.name, map(_item_100k, _split(lines, "|", 24)))
    if file.name == "movies.dat":
        return _collect(file.name, map(_item_1m, _split(lines, "::", 3)))
    return _collect(
        file.name, _table_rows(lines, file.name, (source.item_column, *_ITEM_IDS), item=True)
    )


def read_users(file: LocalFile, source: SourceConfig) -> Metadata:
    """Return the users of `file`. Raises as `read_items` does."""
    lines = _lines(file)
    if file.name == "u.user":
        return _collect(file.name, map(_user_100k, _split(lines, "|", 5)))
    if file.name == "users.dat":
        return _collect(file.name, map(_user_1m, _split(lines, "::", 5)))
    return _collect(
        file.name, _table_rows(lines, file.name, (source.user_column, *_USER_IDS), item=False)
    )


def _lines(file: LocalFile) -> str:
    data = file.path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if not text.strip():
        raise InputError(
            f"{file.name}: expected items or users, got an empty file. Check source.items_uri and source.users_uri."
        )
    # Postgres' text and jsonb hold no NUL.
    return text.replace("\0", "").replace("\r\n", "\n")


def _collect(name: str, rows: Iterator[MetadataRow | None]) -> Metadata:
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
            f"{name}: expected a table of items or users, but it can't be split: {error}. Check its quotes."
        ) from None
    return Metadata(tuple(found.values()), skipped)


def _split(text: str, delimiter: str, n_fields: int) -> Iterator[list[str] | None]:
    for line in text.rstrip("\n").split("\n"):
        fields = line.split(delimiter)
        yield fields if len(fields) == n_fields else None


def _item_100k(fields: list[str] | None) -> MetadataRow | None:
    if fields is None:
        return None
    item_id, title, release_date, _, url, *flags = fields
    genres = [
        genre
        for genre, flag in zip(_GENRES_100K, flags, strict=True)
        if flag == "1" and genre != "unknown"
    ]
    attributes = {
        "genres": genres,
        "year": _year(title),
        "release_date": _iso_date(release_date),
        "imdb_url": url or None,
    }
    return MetadataRow(item_id, title, _known(attributes))


def _item_1m(fields: list[str] | None) -> MetadataRow | None:
    if fields is None:
        return None
    item_id, title, genres = fields
    return MetadataRow(item_id, title, _known({"genres": _genres(genres), "year": _year(title)}))


def _user_100k(fields: list[str] | None) -> MetadataRow | None:
    if fields is None:
        return None
    user_id, age, gender, occupation, zip_code = fields
    return MetadataRow(
        user_id,
        None,
        _known({"age": _number(age), "gender": gender, "occupation": occupation, "zip": zip_code}),
    )


def _user_1m(fields: list[str] | None) -> MetadataRow | None:
    if fields is None:
        return None
    user_id, gender, age, occupation, zip_code = fields
    return MetadataRow(
        user_id,
        None,
        _known({"age": _number(age), "gender": gender, "occupation": occupation, "zip": zip_code}),
    )


def _table_rows(
    text: str, name: str, id_columns: tuple[str, ...], *, item: bool
) -> Iterator[MetadataRow | None]:
    """Yield the rows of a table with a header; the first of `id_columns` that it has is the id."""
    first_line = text.partition("\n")[0]
    atomic = bool(_TYPE.search(first_line.split("\t")[0]))
    delimiter = next((d for d in ("::", "\t", ",", ";", "|") if d in first_line), ",")
    columns = [_TYPE.sub("", column.strip()) for column in split_line(first_line, delimiter)]
    id_column = next((column for column in id_columns if column in columns), None)
    if id_column is None:
        kind = "item" if item else "user"
        raise InputError(
            f"{name}: expected a header with the column {id_columns[0]}, got {shorten(first_line)}. "
            f"Name it with source.{kind}_column, or empty source.{kind}s_uri."
        )
    for fields in _records(text, delimiter, quoted=not atomic and len(delimiter) == 1):
        yield (
            _table_row(dict(zip(columns, fields, strict=True)), id_column, item=item)
            if len(fields) == len(columns)
            else None
        )


def _records(text: str, delimiter: str, *, quoted: bool) -> Iterator[list[str]]:
    if quoted:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        next(rows)
        yield from (row for row in rows if row)
        return
    yield from (line.split(delimiter) for line in text.split("\n")[1:] if line)


def _table_row(values: dict[str, str], id_column: str, *, item: bool) -> MetadataRow:
    item_id = values.pop(id_column)
    title_column = next((column for column in _TITLES if column in values), None) if item else None
    title = values.pop(title_column) if title_column else None
    attributes: dict[str, Any] = {}
    for column, value in values.items():
        if column in _GENRES:
            # RecBole's `class` is a sequence of words.
            attributes["genres"] = _genres(value, " " if column == "class" else "|")
        elif column in _NUMBERS:
            attributes["year" if column == "release_year" else column] = _number(value)
        else:
            attributes["zip" if column == "zip_code" else column] = value or None
    if title and "year" not in attributes:
        attributes["year"] = _year(title)
    return MetadataRow(item_id, title or None, _known(attributes))


def _genres(text: str, separator: str = "|") -> list[str]:
    return (
        [] if text == "(no genres listed)" else [genre for genre in text.split(separator) if genre]
    )


def _year(title: str) -> int | None:
    match = _YEAR.search(title)
    return int(match[1]) if match else None


def _iso_date(text: str) -> str | None:
    try:
        return datetime.strptime(text, "%d-%b-%Y").date().isoformat()
    except ValueError:
        return None


def _number(text: str) -> int | str | None:
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else text or None


def _known(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
