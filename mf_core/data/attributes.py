"""Attributes of users and items, and the design matrices that they become.

What the source says of a row is a JSON object. A string or a boolean becomes an indicator per
value, a list one per element (multi-hot), and a number its standardised value plus an indicator per
eighth of its distribution, since a year or an age seldom acts along a line. An ISO date is a number
of years. Attributes are untrusted: whatever can't be used is left out and named in a note.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mf_core.data.ratings import Float32s, Float64s, IdMap

MIN_ROWS = 5
"""A value held by fewer rows has no column: nothing could be learned of it."""
MAX_COLUMNS = 1_000
# Longer texts are prose, not categories.
_MAX_VALUE_LENGTH = 200
_BINS = 8
# In standard deviations, so that one absurd entry does not rule a regression.
_LARGEST_DEVIATION = 5.0
_SHOWN = 10
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DAYS_PER_YEAR = 365.2425


@dataclass(frozen=True)
class Attributes:
    """What is known of the rows of both sides, in the order of their row numbers.

    Attributes:
        user: object array of shape (n_users,): the text of a JSON object, or None where nothing is
            known.
        item: object array of shape (n_items,), likewise.
    """

    user: NDArray[np.object_]
    item: NDArray[np.object_]


@dataclass(frozen=True)
class AttributeMatrices:
    """The encoded attributes of both sides, rows in the order of the ratings' row numbers.

    A side without attributes has no column.

    Attributes:
        user: float32 array of shape (n_users, F).
        item: float32 array of shape (n_items, F').
    """

    user: Float32s
    item: Float32s


@dataclass(frozen=True)
class Design:
    """One side's design matrix.

    Attributes:
        matrix: float32 array of shape (n_rows, F): indicators 0 or 1, and standardised numbers.
        names: what each column stands for.
        note: what became columns and what was left out, in words.
    """

    matrix: Float32s
    names: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class _Column:
    """One column's entries that are not 0: `value` (one for all, or one for each) at `rows`."""

    attribute: str
    name: str
    rows: NDArray[np.int64]
    value: Float64s | float


def texts_by_row(ids: IdMap, texts: Mapping[str, str]) -> NDArray[np.object_]:
    """Return one side of `Attributes`: the text of each id, None where there is none.

    Returns:
        Object array of shape (len(ids),).
    """
    column = np.empty(len(ids), dtype=object)
    column[:] = [texts.get(external_id) for external_id in ids.ids]
    return column


def encode(texts: Iterable[str | None], max_columns: int = MAX_COLUMNS) -> Design:
    """Return the design matrix of one side's attributes.

    Values held by fewer than `MIN_ROWS` rows or by all of them have no column, and of the others
    the `max_columns` most frequent have one; ties go by name. A number that a row lacks counts as
    the mean.

    Args:
        texts: per row the text of a JSON object, or None.
        max_columns: columns at most.
    """
    rows = list(texts)
    parsed = _Parsed(rows)

    found = [*parsed.indicators(), *parsed.numbers()]
    usable = [column for column in found if _is_usable(column, len(rows))]
    kept = _most_frequent(usable, max_columns)

    # Entries that no column names are 0: no such value, or the mean of a standardised number.
    matrix = np.zeros((len(rows), len(kept)), np.float32)
    for number, column in enumerate(kept):
        matrix[column.rows, number] = column.value

    return Design(
        matrix=matrix,
        names=tuple(column.name for column in kept),
        note=_note(kept, len(usable), len(found), parsed),
    )


def encode_sides(attributes: Attributes) -> tuple[AttributeMatrices, tuple[str, str]]:
    """Return both sides' design matrices, and a line for people on each."""
    user = encode(attributes.user)
    item = encode(attributes.item)
    lines = (
        f"attributes of users: {user.note}",
        f"attributes of items: {item.note}",
    )
    return AttributeMatrices(user.matrix, item.matrix), lines


def _is_usable(column: _Column, n_rows: int) -> bool:
    """Return whether something can be learned of the column: held by some rows and not by all."""
    n_holders = len(column.rows)
    if n_holders < MIN_ROWS:
        return False

    # Standardised numbers differ even where every row has one.
    is_indicator = isinstance(column.value, float)
    return not is_indicator or n_holders < n_rows


def _most_frequent(columns: list[_Column], n: int) -> list[_Column]:
    """Return the `n` columns with the most rows, in the order of their names."""

    # Names decide ties, so that the order of keys in the source makes no difference. The second
    # sort is stable and keeps that order among equals.
    by_name = sorted(columns, key=lambda column: (column.attribute, column.name))
    by_frequency = sorted(by_name, key=lambda column: len(column.rows), reverse=True)

    most_frequent = by_frequency[:n]
    return sorted(most_frequent, key=lambda column: (column.attribute, column.name))


class _Parsed:
    """The usable values of one side, by attribute."""

    def __init__(self, texts: list[str | None]) -> None:
        self._holders: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._numbers: dict[str, dict[int, float]] = defaultdict(dict)
        self.unusable: Counter[str] = Counter()
        self.unreadable = 0

        for row, text in enumerate(texts):
            for attribute, value in self._read(text).items():
                self._take(row, attribute, value)

    def _read(self, text: str | None) -> dict[str, Any]:
        """Return the attributes of one row; an unreadable text is counted and has none."""
        try:
            # Integers as floats: Python refuses to read those of thousands of digits, and they are
            # no use anyway.
            value = json.loads(text, parse_int=float) if text else {}
        except (ValueError, RecursionError):
            value = None

        if not isinstance(value, dict):
            self.unreadable += 1
            return {}
        return value

    def _take(self, row: int, attribute: str, value: Any) -> None:
        """Note the value of an attribute in a row: as a number, or as one or more words."""
        number = value if isinstance(value, float) else _years(value)
        if number is None:
            elements = value if isinstance(value, list) else [value]
            self._take_words(row, attribute, elements)
        elif np.isfinite(number):
            self._numbers[attribute][row] = number
        else:
            self.unusable[attribute] += 1

    def _take_words(self, row: int, attribute: str, elements: list[Any]) -> None:
        """Note the elements of an attribute that is no number."""
        words = [_word(element) for element in elements]

        # An element that stands in a list twice counts once.
        distinct = {word for word in words if word}
        for word in distinct:
            self._holders[attribute, word].append(row)

        if any(word is None for word in words):
            self.unusable[attribute] += 1

    def indicators(self) -> Iterator[_Column]:
        """Yield a column per value of the strings, booleans and lists."""
        for (attribute, word), rows in self._holders.items():
            yield _Column(
                attribute=attribute,
                name=f"{attribute}={word}",
                rows=np.array(rows),
                value=1.0,
            )

    def numbers(self) -> Iterator[_Column]:
        """Yield a column per attribute with numbers, and its bins."""
        for attribute, entries in self._numbers.items():
            rows = np.array(list(entries))
            values = np.array(list(entries.values()))

            # Numbers that are all the same say nothing.
            standard = _standardised(values)
            if standard is None:
                continue
            yield _Column(attribute, attribute, rows, standard)
            yield from _bins(attribute, rows, values)


def _word(value: Any) -> str | None:
    """Return a category's name.

    It is empty for a value that says nothing, and None for one that can't be used.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, str) and len(value) <= _MAX_VALUE_LENGTH:
        return value
    return None


def _years(value: Any) -> float | None:
    """Return an ISO date (YYYY-MM-DD) in years; None for anything else."""
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return None
    try:
        days = date.fromisoformat(value).toordinal()
    except ValueError:
        # Digits in the shape of a date, such as a month 13.
        return None
    return days / _DAYS_PER_YEAR


def _standardised(values: Float64s) -> Float64s | None:
    """Return the values with mean 0 and standard deviation 1; None where they are all the same."""
    if values.min() == values.max():
        return None

    # Squares of the largest floats overflow; those of values in [-1, 1] do not.
    scaled = values / np.abs(values).max()
    spread = scaled.std()

    # The smallest floats differ, and their squares are 0 all the same.
    if not spread > 0:
        return None
    standard = (scaled - scaled.mean()) / spread  # z = (x - mean) / sd
    return np.asarray(np.clip(standard, -_LARGEST_DEVIATION, _LARGEST_DEVIATION))


def _bins(attribute: str, rows: NDArray[np.int64], values: Float64s) -> Iterator[_Column]:
    """Yield an indicator per eighth of the values.

    Equal values share a bin. Two distinct values need none: their column says it all.
    """
    if len(np.unique(values)) < 3:
        return

    # Inverted CDF: edges are values that occur, so that the names of the bins can be read.
    levels = np.arange(1, _BINS) / _BINS  # 1/8 ... 7/8
    edges = np.unique(np.quantile(values, levels, method="inverted_cdf"))

    # Bin b holds edges[b - 1] < x <= edges[b].
    place = np.searchsorted(edges, values)
    for number in np.unique(place):
        low = f"{edges[number - 1]:g}<" if number else ""
        high = f"<={edges[number]:g}" if number < len(edges) else ""
        yield _Column(
            attribute=attribute,
            name=f"{low}{attribute}{high}",
            rows=rows[place == number],
            value=1.0,
        )


def _note(kept: list[_Column], n_usable: int, n_found: int, parsed: _Parsed) -> str:
    """Return in words what became columns and what was left out."""
    attributes = sorted({column.attribute for column in kept})
    parts = [f"{len(kept):,} columns of {_listed(attributes)}" if kept else "no columns"]

    n_useless = n_found - n_usable
    if n_useless:
        parts.append(
            f"{n_useless:,} values held by fewer than {MIN_ROWS} rows or by all were left out"
        )

    n_beyond = n_usable - len(kept)
    if n_beyond:
        parts.append(f"{n_beyond:,} beyond the {len(kept):,} most frequent were left out")

    unusable = sorted(name for name, count in parsed.unusable.items() if count)
    if unusable:
        parts.append(f"nested, infinite or overlong values of {_listed(unusable)} were left out")

    if parsed.unreadable:
        parts.append(f"{parsed.unreadable:,} rows are no JSON object")
    return "; ".join(parts)


def _listed(names: list[str]) -> str:
    """Return the first names in quotes; whatever stands in them, the line stays printable."""
    quoted = [ascii(name[:_MAX_VALUE_LENGTH]) for name in names[:_SHOWN]]
    shown = ", ".join(quoted)

    n_more = len(names) - _SHOWN
    if n_more > 0:
        return f"{shown} and {n_more:,} more"
    return shown
