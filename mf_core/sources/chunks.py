"""Rows as text become checked rows; bad ones leave with their line, their text and a reason.

All checks are vectorised: the rows arrive as Arrow string columns, and only a bad row is ever
looked at by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mf_core.config import Kind
from mf_core.sources.ids import TextIds, check_ids, check_names
from mf_core.sources.numbers import read_numbers
from mf_core.sources.problems import Cause, Problem, as_mask, quoted
from mf_core.sources.times import UNKNOWN_TIME, Clock, check_times

_MAX_RAW_LENGTH = 2_000
_DECIMAL_COMMA = r"^[0-9]+,[0-9]+$"
# A sum of so many such weights is still a number that a model can take.
_LARGEST_WEIGHT = 1e9
_NOT_FINITE = r"^[+-]?(nan|inf|infinity)$"


@dataclass(frozen=True)
class Rules:
    """What makes a row good.

    Attributes:
        scale_low: the lowest rating.
        scale_high: the highest one.
        clock: how times are read.
        not_rated: the rating of rows that are no ratings; None: every row is one.
        side: the side of every row of a file without a side column.
        kind: whether rows are ratings on the scale, or events.
    """

    scale_low: float
    scale_high: float
    clock: Clock
    not_rated: float | None = None
    side: str | None = None
    kind: Kind = "ratings"


@dataclass(frozen=True)
class RawRows:
    """Rows as text, before any check.

    Attributes:
        user: Arrow string array of shape (n,) without spaces around; missing values are "".
        item: likewise.
        rating: likewise; of events, how many a row stands for, None: each for one.
        time: likewise, or timestamps in microseconds; None if the source has no such column.
        side: strings, or None if the source has no such column.
        line: int64 array of shape (n,), the line (or row) numbers in the file, from 1.
        raw: gives the text of the i-th row.
        problems: what was wrong with values before they became text.
        event: strings, the types of events; None if the source has no such column.
    """

    user: Any
    item: Any
    rating: Any | None
    time: Any | None
    side: Any | None
    line: NDArray[np.int64]
    raw: Callable[[int], str]
    problems: tuple[Problem, ...] = ()
    event: Any | None = None


@dataclass(frozen=True)
class RejectedRow:
    """A bad row: where it stands, what it says and why it was not loaded."""

    line: int
    raw: str
    reason: str
    cause: Cause = Cause.LINE


@dataclass(frozen=True)
class Chunk:
    """Checked rows.

    Attributes:
        rows: Arrow table with the columns user_id, item_id (string), rating (double), rated_us
            (int64 microseconds since 1970 UTC, null: unknown), side (string, null: none) and line
            (int64). Of events, `rating` is how many a row stands for, and there is a column event
            (string, "": no type).
        rejected: the bad rows, in line order.
        not_rated: how many rows say that they are no ratings; they are neither good nor bad.
        seen: the lowest and the highest number among the ratings, on the scale or not; None: there
            was no number.
        notes: what people should know of how it was read.
    """

    rows: Any
    rejected: tuple[RejectedRow, ...]
    not_rated: int = 0
    seen: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_read(self) -> int:
        """Rows read: good, bad and not rated."""
        n_good = int(self.rows.num_rows)
        return n_good + len(self.rejected) + self.not_rated


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


@dataclass(frozen=True)
class Block:
    """A piece of a file as rows, and the lines of it that are none, in line order.

    `notes` is what people should know of how it was read.
    """

    rows: RawRows
    rejected: tuple[RejectedRow, ...] = ()
    notes: tuple[str, ...] = ()


def repeated(value: str | None, n_rows: int) -> Any:
    """Return an Arrow string array of shape (n_rows,) of one value."""
    every_row = pa.array(np.zeros(n_rows, dtype=np.int64))
    return pa.array([value], type=pa.string()).take(every_row)


def check_rows(block: Block, rules: Rules, ids: TextIds) -> Chunk:
    """Return a block as a checked `Chunk`.

    Args:
        block: what was read.
        rules: what makes a row good.
        ids: how the ids of the source are written.
    """
    rows = block.rows
    users, user_problems = ids.read(rows.user, "user")
    items, item_problems = ids.read(rows.item, "item")
    rows = replace(rows, user=users, item=items)
    rating, rating_problems = _check_values(rows, rules)
    rated_us, time_problems = check_times(rows.time, rules.clock, len(rows.line))
    problems = [
        *rows.problems,
        *check_ids(rows.user, "user"),
        *user_problems,
        *check_ids(rows.item, "item"),
        *item_problems,
        *_check_events(rows.event),
        *rating_problems,
        *time_problems,
        *_check_sides(rows.side),
    ]

    is_rated = np.ones(len(rating), dtype=bool)
    if rules.not_rated is not None:
        is_rated = rating != rules.not_rated
    first_problem = np.where(is_rated, _first_problem(problems, len(rows.line)), 0)
    rejected = _rejected(rows, problems, first_problem)
    table = _table(rows, rating, rated_us, rules)
    is_good = is_rated & (first_problem == 0)
    if not is_good.all():
        table = table.filter(pa.array(is_good))

    in_line_order = sorted((*block.rejected, *rejected), key=lambda row: row.line)
    return Chunk(
        table,
        tuple(in_line_order),
        not_rated=int(np.count_nonzero(~is_rated)),
        seen=_range(rating[is_rated]),
        notes=(*block.notes, *ids.notes()),
    )


def _range(rating: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the lowest and the highest finite number, None if there is none."""
    finite = rating[np.isfinite(rating)]
    if not len(finite):
        return None
    return float(finite.min()), float(finite.max())


def _first_problem(problems: list[Problem], n: int) -> NDArray[np.int16]:
    """Return the number (from 1) of the first problem of each row, 0 for a good row; shape (n,)."""
    first = np.zeros(n, dtype=np.int16)
    numbered = list(enumerate(problems, start=1))

    # The last problem is written first, so that an earlier one takes its place.
    for number, problem in reversed(numbered):
        first[problem.mask] = number
    return first


def _rejected(
    rows: RawRows, problems: list[Problem], first_problem: NDArray[np.int16]
) -> list[RejectedRow]:
    """Return the rows that have a problem, each with the first one in words."""
    rejected = []
    for i in np.flatnonzero(first_problem).tolist():
        problem = problems[first_problem[i] - 1]
        rejected.append(
            RejectedRow(
                line=int(rows.line[i]),
                raw=printable(rows.raw(i)),
                reason=printable(problem.reason(i)),
                cause=problem.cause,
            )
        )
    return rejected


def _table(
    rows: RawRows, rating: NDArray[np.float64], rated_us: NDArray[np.int64], rules: Rules
) -> Any:
    """Return all rows, good and bad, as the table of a `Chunk`."""
    # A file without a side column: the same side, or none, in every row.
    sides = rows.side
    if sides is None:
        sides = repeated(rules.side, len(rows.line))

    columns = {
        "user_id": rows.user,
        "item_id": rows.item,
        "rating": pa.array(rating),
        "rated_us": pa.array(rated_us, mask=rated_us == UNKNOWN_TIME),
        "side": sides,
        "line": pa.array(rows.line),
    }
    if rules.kind == "events":
        columns["event"] = repeated("", len(rows.line)) if rows.event is None else rows.event
    return pa.table(columns)


def _check_events(events: Any | None) -> list[Problem]:
    """Return what is wrong with the types of events, if the source has such a column."""
    return [] if events is None else check_names(events, "event", Cause.EVENT)


def _check_values(rows: RawRows, rules: Rules) -> tuple[NDArray[np.float64], list[Problem]]:
    """Return the ratings or the weights of events, and what is wrong with them."""
    if rows.rating is None:
        return np.ones(len(rows.line)), []
    if rules.kind == "events":
        return _check_weights(rows.rating)
    return _check_ratings(rows.rating, rules)


def _check_weights(text: Any) -> tuple[NDArray[np.float64], list[Problem]]:
    """Return the weights of events, NaN where the text is no number, and what is wrong."""
    values, problems = _check_numbers(text, "weight", Cause.EVENT)
    too_large = np.isfinite(values) & (np.abs(values) > _LARGEST_WEIGHT)
    bounds = f"-{_LARGEST_WEIGHT:,.0f} to {_LARGEST_WEIGHT:,.0f}"

    def reason(i: int) -> str:
        """Return the reason with the bounds."""
        return f"the weight {quoted(text, i)} is not within {bounds}"

    return values, [*problems, Problem(too_large, reason, Cause.EVENT)]


def _check_ratings(text: Any, rules: Rules) -> tuple[NDArray[np.float64], list[Problem]]:
    """Return the ratings, NaN where the text is no number, and what is wrong with them."""
    values, problems = _check_numbers(text, "rating", Cause.RATING)
    too_low = values < rules.scale_low
    too_high = values > rules.scale_high
    out_of_scale = np.isfinite(values) & (too_low | too_high)
    scale = f"{rules.scale_low:g} to {rules.scale_high:g} (data.scale_low, data.scale_high)"

    def reason(i: int) -> str:
        """Return the reason with the scale."""
        return f"the rating {quoted(text, i)} is outside the scale {scale}"

    return values, [*problems, Problem(out_of_scale, reason, Cause.SCALE)]


def _check_numbers(text: Any, what: str, cause: Cause) -> tuple[NDArray[np.float64], list[Problem]]:
    """Return the numbers, NaN where the text is none, and what is wrong with them as numbers."""
    values, is_number = read_numbers(text)
    finite = np.isfinite(values)

    missing = as_mask(pc.equal(text, ""))
    # "inf" and "1e999" are not finite; "good" is not a number.
    names_infinity = has_comma = np.zeros(len(values), dtype=bool)
    if not finite.all():
        names_infinity = as_mask(pc.match_substring_regex(text, _NOT_FINITE, ignore_case=True))
        has_comma = as_mask(pc.match_substring_regex(text, _DECIMAL_COMMA))
    not_finite = ~finite & (is_number | names_infinity)

    def shown(i: int) -> str:
        """Return the beginning of the reasons."""
        return f"the {what} {quoted(text, i)}"

    return values, [
        Problem(missing, lambda i: f"the {what} is missing", cause),
        Problem(not_finite, lambda i: f"{shown(i)} is not finite", cause),
        Problem(has_comma, lambda i: f"{shown(i)} has a comma for a decimal point", cause),
        Problem(~finite, lambda i: f"{shown(i)} is not a number", cause),
    ]


def _check_sides(side: Any | None) -> list[Problem]:
    """Return what is wrong with the sides, if the source has such a column."""
    if side is None:
        return []
    sides = pa.array(["train", "test"])
    known = as_mask(pc.is_in(side, value_set=sides))

    def reason(i: int) -> str:
        """Return the reason with the setting that chose the column."""
        return f"the side {quoted(side, i)} is neither 'train' nor 'test' (source.side_column)"

    return [Problem(~known, reason, Cause.SIDE)]
