"""Rows as text become checked rows; what fails a check leaves with its line number, its raw text and a reason in words.

All checks are vectorised: the rows arrive as Arrow string columns, and only a bad row is ever looked at by itself.
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
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_NOT_FINITE = r"^[+-]?(nan|inf|infinity)$"

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Rules:
    """What makes a row good. `side` is the side of every row of a file that has no side column."""

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
        rows: Arrow table with the columns user_id, item_id (string), rating (double), rated_us (int64 microseconds since
            1970 UTC, null: unknown), side (string, null: none) and line (int64).
        rejected: the bad rows, in line order.
    """

    rows: Any
    rejected: tuple[RejectedRow, ...]

    @property
    def n_read(self) -> int:
        """Rows read, good and bad."""
        return int(self.rows.num_rows) + len(self.rejected)


def printable(raw: bytes | str) -> str:
    """Return `raw` as text that Postgres can hold: NUL, line breaks and broken UTF-8 escaped, cut at 2,000 characters."""
    text = raw.decode("utf-8", errors="backslashreplace") if isinstance(raw, bytes) else raw
    text = (
        text.replace("\0", "\\x00")
        .replace("\n", "\\n")
        .encode("utf-8", errors="backslashreplace")
        .decode()
    )
    return (
        text
        if len(text) <= _MAX_RAW_LENGTH
        else f"{text[:_MAX_RAW_LENGTH]}... ({len(text):,} characters)"
    )


def check_rows(rows: RawRows, rules: Rules, rejected_before: tuple[RejectedRow, ...] = ()) -> Chunk:
    """Return `rows` as a checked `Chunk`; `rejected_before` are rows of the same block that could not even be split."""
    rating, rating_problems = _check_ratings(rows.rating, rules)
    rated_us, time_problems = _check_times(rows.time, rules, len(rows.line))
    problems = [
        *_check_ids(rows.user, "user"),
        *_check_ids(rows.item, "item"),
        *rating_problems,
        *time_problems,
        *_check_sides(rows.side),
    ]
    first_problem = np.zeros(len(rows.line), dtype=np.int16)
    for number, (mask, _) in reversed(list(enumerate(problems, start=1))):
        first_problem[mask] = number
    rejected = [
        RejectedRow(
            int(rows.line[i]),
            printable(rows.raw(i)),
            printable(problems[first_problem[i] - 1][1](i)),
        )
        for i in np.flatnonzero(first_problem).tolist()
    ]
    table = _table(rows, rating, rated_us, rules.side)
    good = table.filter(pa.array(first_problem == 0)) if rejected else table
    return Chunk(good, tuple(sorted((*rejected_before, *rejected), key=lambda row: row.line)))


Problem = tuple[Mask, Callable[[int], str]]


def _table(
    rows: RawRows, rating: NDArray[np.float64], rated_us: NDArray[np.int64], side: str | None
) -> Any:
    n = len(rows.line)
    sides = (
        rows.side
        if rows.side is not None
        else pa.array([side], type=pa.string()).take(pa.array(np.zeros(n, dtype=np.int64)))
    )
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
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=bool)


def _check_ids(ids: Any, side: str) -> list[Problem]:
    missing = _mask(pc.equal(pc.utf8_trim_whitespace(ids), ""))
    too_long = _mask(pc.greater(pc.utf8_length(ids), MAX_ID_LENGTH))
    has_nul = _mask(pc.match_substring(ids, "\0"))
    has_break = _mask(pc.match_substring_regex(ids, "[\r\n]"))
    return [
        (missing, lambda i: f"the {side} id is missing"),
        (
            too_long,
            lambda i: (
                f"the {side} id has {len(ids[i].as_py()):,} characters, more than {MAX_ID_LENGTH}"
            ),
        ),
        (has_nul, lambda i: f"the {side} id holds a NUL byte"),
        (has_break, lambda i: f"the {side} id holds a line break"),
    ]


def _check_ratings(text: Any, rules: Rules) -> tuple[NDArray[np.float64], list[Problem]]:
    trimmed = pc.utf8_trim_whitespace(text)
    values, is_number = _numbers(trimmed)
    finite = np.isfinite(values)
    missing = _mask(pc.equal(trimmed, ""))
    not_finite = ~finite & (
        is_number | _mask(pc.match_substring_regex(trimmed, _NOT_FINITE, ignore_case=True))
    )
    out_of_scale = finite & ((values < rules.scale_low) | (values > rules.scale_high))
    scale = f"{rules.scale_low:g} to {rules.scale_high:g} (data.scale_low, data.scale_high)"
    return values, [
        (missing, lambda i: "the rating is missing"),
        (not_finite, lambda i: f"the rating {text[i].as_py()!r:.60} is not finite"),
        (~finite, lambda i: f"the rating {text[i].as_py()!r:.60} is not a number"),
        (
            out_of_scale,
            lambda i: f"the rating {text[i].as_py()!r:.60} is outside the scale {scale}",
        ),
    ]


def _numbers(trimmed: Any) -> tuple[NDArray[np.float64], Mask]:
    """Return the values (NaN where `trimmed` is no number) and where it is one."""
    try:
        values = np.asarray(pc.cast(trimmed, pa.float64()).to_numpy(zero_copy_only=False))
        return values, np.ones(len(values), dtype=bool)
    except pa.ArrowInvalid:
        pass
    is_number = _mask(pc.match_substring_regex(trimmed, _NUMBER))
    values = np.full(len(is_number), np.nan)
    # Arrow knows no leading plus and no overflow, so the few odd blocks go through Python.
    values[is_number] = [float(text) for text in trimmed.filter(pa.array(is_number)).to_pylist()]
    return values, is_number


def _check_times(text: Any | None, rules: Rules, n: int) -> tuple[NDArray[np.int64], list[Problem]]:
    if text is None:
        return np.full(n, _UNKNOWN), []
    trimmed = pc.utf8_trim_whitespace(text)
    rated_us, unreadable = _microseconds(trimmed)
    known = rated_us != _UNKNOWN
    too_early = known & (rated_us < int(_EARLIEST.timestamp() * 1e6))
    too_late = known & (rated_us > int(rules.now.timestamp() * 1e6))
    return rated_us, [
        (
            unreadable,
            lambda i: f"the date {text[i].as_py()!r:.60} is neither epoch seconds nor ISO 8601",
        ),
        (too_early, lambda i: f"the date {text[i].as_py()!r:.60} lies before 1990"),
        (too_late, lambda i: f"the date {text[i].as_py()!r:.60} lies in the future"),
    ]


def _microseconds(trimmed: Any) -> tuple[NDArray[np.int64], Mask]:
    """Return microseconds since 1970 (the smallest int64: unknown) and where the text is no date."""
    blank = _mask(pc.equal(trimmed, ""))
    seconds, is_number = (
        _numbers(pc.if_else(pa.array(blank), "0", trimmed)) if blank.any() else _numbers(trimmed)
    )
    overflow = ~np.isfinite(seconds)
    unreadable = overflow.copy()
    seconds = np.where(np.abs(seconds) > _MILLISECONDS_FROM, seconds / 1e3, seconds)
    # Beyond this an int64 of microseconds would wrap; whatever is there lies in the future or before 1990 anyway.
    seconds = np.clip(np.where(overflow, 0.0, seconds), -1e12, 1e12)
    microseconds = np.round(seconds * 1e6).astype(np.int64)
    microseconds[seconds == 0] = _UNKNOWN
    words = np.flatnonzero(~is_number)
    if len(words):
        texts = trimmed.take(pa.array(words)).to_pylist()
        dates = pd.to_datetime(
            pd.Series(texts, dtype=object), format="ISO8601", utc=True, errors="coerce"
        )
        parsed = dates.to_numpy(dtype="datetime64[us]")
        bad = np.isnat(parsed)
        microseconds[words] = np.where(bad, _UNKNOWN, parsed.astype(np.int64))
        unreadable[words] = bad
    return microseconds, unreadable


def _check_sides(side: Any | None) -> list[Problem]:
    if side is None:
        return []
    known = _mask(pc.is_in(side, value_set=pa.array(["train", "test"])))
    return [
        (
            ~known,
            lambda i: (
                f"the side {side[i].as_py()!r:.60} is neither 'train' nor 'test' (source.side_column)"
            ),
        )
    ]
