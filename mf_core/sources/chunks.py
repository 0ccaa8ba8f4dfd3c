"""Rows as text become checked rows; bad ones leave with their line, their text and a reason.

All checks are vectorised: the rows arrive as Arrow string columns, and only a bad row is ever
looked at by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MAX_ID_LENGTH = 256
_MAX_RAW_LENGTH = 2_000
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
_UNKNOWN = np.iinfo(np.int64).min
# From here on an epoch is in milliseconds: as seconds it would be the year 5138.
_MILLISECONDS_FROM = 1e11
# An int64 holds the microseconds of this many seconds; it lies far outside the dates allowed.
_LARGEST_SECONDS = 1e12
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_NOT_FINITE = r"^[+-]?(nan|inf|infinity)$"

Mask = NDArray[np.bool_]

Problem = tuple[Mask, Callable[[int], str]]
"""Which rows fail a check, and the reason for the i-th row in words."""


@dataclass(frozen=True)
class Rules:
    """What makes a row good. `side` is the side of every row of a file without a side column."""

    scale_low: float
    scale_high: float
    now: datetime
    side: str | None = None


@dataclass(frozen=True)
class RawRows:
    """Rows as text, before any check.

    Attributes:
        user: Arrow string array of shape (n,); missing values are "".
        item: likewise.
        rating: likewise.
        time: likewise, or None if the source has no such column.
        side: likewise.
        line: int64 array of shape (n,), the line (or row) numbers in the file, from 1.
        raw: gives the text of the i-th row.
    """

    user: Any
    item: Any
    rating: Any
    time: Any | None
    side: Any | None
    line: NDArray[np.int64]
    raw: Callable[[int], str]


@dataclass(frozen=True)
class RejectedRow:
    """A bad row: where it stands, what it says and why it was not loaded."""

    line: int
    raw: str
    reason: str


@dataclass(frozen=True)
class Chunk:
    """Checked rows.

    Attributes:
        rows: Arrow table with the columns user_id, item_id (string), rating (double), rated_us
            (int64 microseconds since 1970 UTC, null: unknown), side (string, null: none) and line
            (int64).
        rejected: the bad rows, in line order.
    """

    rows: Any
    rejected: tuple[RejectedRow, ...]

    @property
    def n_read(self) -> int:
        """Rows read, good and bad."""
        n_good = int(self.rows.num_rows)
        return n_good + len(self.rejected)


def printable(raw: bytes | str) -> str:
    """Return `raw` as text that Postgres can hold.

    NUL, line breaks and broken UTF-8 are escaped; the text is cut at 2,000 characters.
    """
    text = raw.decode("utf-8", errors="backslashreplace") if isinstance(raw, bytes) else raw
    text = text.replace("\0", "\\x00").replace("\n", "\\n")
    # Lone surrogates, which a str may hold and UTF-8 may not.
    text = text.encode("utf-8", errors="backslashreplace").decode()
    if len(text) > _MAX_RAW_LENGTH:
        return f"{text[:_MAX_RAW_LENGTH]}... ({len(text):,} characters)"
    return text


def check_rows(rows: RawRows, rules: Rules, rejected_before: tuple[RejectedRow, ...] = ()) -> Chunk:
    """Return `rows` as a checked `Chunk`.

    `rejected_before` are rows of the same block that could not even be split.
    """
    rating, rating_problems = _check_ratings(rows.rating, rules)
    rated_us, time_problems = _check_times(rows.time, rules, len(rows.line))
    problems = [
        *_check_ids(rows.user, "user"),
        *_check_ids(rows.item, "item"),
        *rating_problems,
        *time_problems,
        *_check_sides(rows.side),
    ]

    first_problem = _first_problem(problems, len(rows.line))
    rejected = _rejected(rows, problems, first_problem)
    table = _table(rows, rating, rated_us, rules.side)
    if rejected:
        table = table.filter(pa.array(first_problem == 0))

    in_line_order = sorted((*rejected_before, *rejected), key=lambda row: row.line)
    return Chunk(table, tuple(in_line_order))


def _first_problem(problems: list[Problem], n: int) -> NDArray[np.int16]:
    """Return the number (from 1) of the first problem of each row, 0 for a good row; shape (n,)."""
    first = np.zeros(n, dtype=np.int16)
    numbered = list(enumerate(problems, start=1))

    # The last problem is written first, so that an earlier one takes its place.
    for number, problem in reversed(numbered):
        mask = problem[0]
        first[mask] = number
    return first


def _rejected(
    rows: RawRows, problems: list[Problem], first_problem: NDArray[np.int16]
) -> list[RejectedRow]:
    """Return the rows that have a problem, each with the first one in words."""
    rejected = []
    for i in np.flatnonzero(first_problem).tolist():
        _, reason = problems[first_problem[i] - 1]
        rejected.append(
            RejectedRow(
                line=int(rows.line[i]),
                raw=printable(rows.raw(i)),
                reason=printable(reason(i)),
            )
        )
    return rejected


def _table(
    rows: RawRows, rating: NDArray[np.float64], rated_us: NDArray[np.int64], side: str | None
) -> Any:
    """Return all rows, good and bad, as the table of a `Chunk`."""
    # A file without a side column: the same side, or none, in every row.
    sides = rows.side
    if sides is None:
        every_row = pa.array(np.zeros(len(rows.line), dtype=np.int64))
        sides = pa.array([side], type=pa.string()).take(every_row)

    columns = {
        "user_id": rows.user,
        "item_id": rows.item,
        "rating": pa.array(rating),
        "rated_us": pa.array(rated_us, mask=rated_us == _UNKNOWN),
        "side": sides,
        "line": pa.array(rows.line),
    }
    return pa.table(columns)


def _mask(values: Any) -> Mask:
    """Return an Arrow boolean array as NumPy's; Arrow keeps bits, so they are copied."""
    booleans = values.to_numpy(zero_copy_only=False)
    return np.asarray(booleans, dtype=bool)


def _check_ids(ids: Any, side: str) -> list[Problem]:
    """Return what is wrong with the ids of one side, "user" or "item"."""
    trimmed = pc.utf8_trim_whitespace(ids)
    missing = _mask(pc.equal(trimmed, ""))
    too_long = _mask(pc.greater(pc.utf8_length(ids), MAX_ID_LENGTH))

    # Postgres' text holds no NUL; a line break in an id would break other systems' files.
    has_nul = _mask(pc.match_substring(ids, "\0"))
    has_break = _mask(pc.match_substring_regex(ids, "[\r\n]"))

    def too_long_reason(i: int) -> str:
        """Return the reason with the length, as the id itself would be cut."""
        n_characters = len(ids[i].as_py())
        return f"the {side} id has {n_characters:,} characters, more than {MAX_ID_LENGTH}"

    return [
        (missing, lambda i: f"the {side} id is missing"),
        (too_long, too_long_reason),
        (has_nul, lambda i: f"the {side} id holds a NUL byte"),
        (has_break, lambda i: f"the {side} id holds a line break"),
    ]


def _check_ratings(text: Any, rules: Rules) -> tuple[NDArray[np.float64], list[Problem]]:
    """Return the ratings, NaN where the text is no number, and what is wrong with them."""
    trimmed = pc.utf8_trim_whitespace(text)
    values, is_number = _numbers(trimmed)
    finite = np.isfinite(values)

    missing = _mask(pc.equal(trimmed, ""))
    # "inf" and "1e999" are not finite; "good" is not a number.
    names_infinity = _mask(pc.match_substring_regex(trimmed, _NOT_FINITE, ignore_case=True))
    not_finite = ~finite & (is_number | names_infinity)

    too_low = values < rules.scale_low
    too_high = values > rules.scale_high
    out_of_scale = finite & (too_low | too_high)

    scale = f"{rules.scale_low:g} to {rules.scale_high:g} (data.scale_low, data.scale_high)"
    return values, [
        (missing, lambda i: "the rating is missing"),
        (not_finite, lambda i: f"the rating {_quoted(text, i)} is not finite"),
        (~finite, lambda i: f"the rating {_quoted(text, i)} is not a number"),
        (out_of_scale, lambda i: f"the rating {_quoted(text, i)} is outside the scale {scale}"),
    ]


def _quoted(text: Any, i: int) -> str:
    """Return the i-th text in quotes, cut to 60 characters, for a reason."""
    quoted = repr(text[i].as_py())
    return quoted[:60]


def _numbers(trimmed: Any) -> tuple[NDArray[np.float64], Mask]:
    """Return the values (NaN where `trimmed` is no number) and where it is one."""
    try:
        numbers = pc.cast(trimmed, pa.float64())
    except pa.ArrowInvalid:
        pass
    else:
        values = np.asarray(numbers.to_numpy(zero_copy_only=False))
        return values, np.ones(len(values), dtype=bool)

    # Arrow knows no leading plus and no overflow, so the few odd blocks go through Python.
    is_number = _mask(pc.match_substring_regex(trimmed, _NUMBER))
    values = np.full(len(is_number), np.nan)
    texts = trimmed.filter(pa.array(is_number)).to_pylist()
    values[is_number] = [float(text) for text in texts]
    return values, is_number


def _check_times(text: Any | None, rules: Rules, n: int) -> tuple[NDArray[np.int64], list[Problem]]:
    """Return the times in microseconds since 1970, and what is wrong with them."""
    if text is None:
        return np.full(n, _UNKNOWN), []

    rated_us, unreadable = _microseconds(pc.utf8_trim_whitespace(text))
    earliest = int(_EARLIEST.timestamp() * 1e6)
    latest = int(rules.now.timestamp() * 1e6)

    known = rated_us != _UNKNOWN
    too_early = known & (rated_us < earliest)
    too_late = known & (rated_us > latest)

    format_words = "neither epoch seconds nor ISO 8601"
    return rated_us, [
        (unreadable, lambda i: f"the date {_quoted(text, i)} is {format_words}"),
        (too_early, lambda i: f"the date {_quoted(text, i)} lies before 1990"),
        (too_late, lambda i: f"the date {_quoted(text, i)} lies in the future"),
    ]


def _microseconds(trimmed: Any) -> tuple[NDArray[np.int64], Mask]:
    """Return microseconds since 1970 (the smallest int64: unknown) and where it is no date."""
    # An empty text means unknown, as 0 does.
    blank = _mask(pc.equal(trimmed, ""))
    filled = pc.if_else(pa.array(blank), "0", trimmed) if blank.any() else trimmed
    numbers, is_number = _numbers(filled)
    overflow = ~np.isfinite(numbers)

    # Numbers: seconds, or milliseconds where seconds would lie millennia ahead.
    is_milliseconds = np.abs(numbers) > _MILLISECONDS_FROM
    seconds = np.where(is_milliseconds, numbers / 1e3, numbers)

    # An int64 would wrap. What is clipped lies in the future or before 1990 anyway.
    seconds = np.where(overflow, 0.0, seconds)
    seconds = np.clip(seconds, -_LARGEST_SECONDS, _LARGEST_SECONDS)
    microseconds = np.round(seconds * 1e6).astype(np.int64)
    microseconds[seconds == 0] = _UNKNOWN

    # Everything else: ISO 8601.
    unreadable = overflow.copy()
    words = np.flatnonzero(~is_number)
    if len(words):
        dates = _iso_microseconds(trimmed.take(pa.array(words)).to_pylist())
        microseconds[words] = dates
        unreadable[words] = dates == _UNKNOWN
    return microseconds, unreadable


def _iso_microseconds(texts: list[str]) -> NDArray[np.int64]:
    """Return ISO 8601 dates in microseconds since 1970; the smallest int64: no such date."""
    series = pd.Series(texts, dtype=object)
    dates = pd.to_datetime(series, format="ISO8601", utc=True, errors="coerce")

    parsed = dates.to_numpy(dtype="datetime64[us]")
    microseconds = parsed.astype(np.int64)
    return np.where(np.isnat(parsed), _UNKNOWN, microseconds)


def _check_sides(side: Any | None) -> list[Problem]:
    """Return what is wrong with the sides, if the source has such a column."""
    if side is None:
        return []
    sides = pa.array(["train", "test"])
    known = _mask(pc.is_in(side, value_set=sides))

    def reason(i: int) -> str:
        """Return the reason with the setting that chose the column."""
        return f"the side {_quoted(side, i)} is neither 'train' nor 'test' (source.side_column)"

    return [(~known, reason)]
