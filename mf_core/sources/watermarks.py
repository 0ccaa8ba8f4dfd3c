"""How far a query was loaded: the largest value of a column that rises with every change.

A watermark is stored as text: what kind of value it is, and the value as the database gave it. A
later query asks for rows from there on, less an overlap, and for those without a value.
"""

import math
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from mf_core.errors import InputError

# What no time of Python is: such a row is above or below all others, and is not gone by.
_BEYOND = re.compile(r"-?infinity|.*\bBC|[0-9]{5,}-.*", re.IGNORECASE)

_Value = tuple[str, Decimal | datetime]
"""The kind of a value (`number`, `time`, or a time written as `text`), and what it is."""


class HighWater:
    """Finds the largest value of a column, portion by portion.

    Args:
        column: what it is called, for messages.
        began: when the query began (with a zone). A row of a later time says nothing of how far
            the rows are loaded.
        texts_are_text: whether a `str` comes of a column of text; otherwise of one of times, which
            psycopg2 is made to give as they are written.
    """

    def __init__(self, column: str, began: datetime, *, texts_are_text: bool) -> None:
        self._column = column
        self._began = began
        self._texts_are_text = texts_are_text
        self._largest: _Value | None = None
        self._written = ""

    def add(self, values: Iterable[Any]) -> None:
        """Look at further values. Raises InputError if one is neither a number nor a time."""
        for value in values:
            read = self._read(value)
            if read is None:
                continue
            if self._largest is None:
                self._largest, self._written = read, _text_of(value)
                continue
            if read[0] != self._largest[0]:
                raise InputError(self._no_watermark(value))
            if self._is_larger(read, value):
                self._largest, self._written = read, _text_of(value)

    def result(self) -> str | None:
        """Return the watermark, None where no row has a value."""
        return None if self._largest is None else f"{self._largest[0]} {self._written}"

    def _is_larger(self, read: _Value, value: Any) -> bool:
        assert self._largest is not None
        if read[0] == "text":
            # As the database compares them.
            return _text_of(value) > self._written
        return bool(read[1] > self._largest[1])  # type: ignore[operator]

    def _read(self, value: Any) -> _Value | None:
        """Return a value as what it is; None: it is missing, or says nothing."""
        if value is None:
            return None
        if isinstance(value, bool):
            raise InputError(self._no_watermark(value))
        if isinstance(value, int | float | Decimal):
            return None if not math.isfinite(value) else ("number", Decimal(str(value)))
        if isinstance(value, date):
            return self._past("time", _moment(value))

        text = _text_of(value)
        kind = "text" if self._texts_are_text or not isinstance(value, str) else "time"
        if _BEYOND.fullmatch(text):
            return None
        try:
            return self._past(kind, _moment(datetime.fromisoformat(text)))
        except ValueError:
            raise InputError(self._no_watermark(value)) from None

    def _past(self, kind: str, moment: datetime) -> _Value | None:
        return None if moment > self._began else (kind, moment)

    def _no_watermark(self, value: Any) -> str:
        return (
            f"source.watermark_column is {self._column}, which holds {_text_of(value)!r:.60}; "
            "expected times or numbers that rise with every change of a row, all of one kind. "
            "Name another column, or cast it in source.query."
        )


def lower_bound(watermark: str, overlap: float) -> str:
    """Return the SQL literal from which on rows are new, or may be.

    Args:
        watermark: as `HighWater.result` returned it.
        overlap: how far before it, in seconds of a time or in units of a number.
    """
    kind, _, written = watermark.partition(" ")
    if kind == "number":
        return f"{Decimal(written) - Decimal(str(overlap)):f}"
    try:
        moment = datetime.fromisoformat(written) - timedelta(seconds=overlap)
    except OverflowError:
        moment = datetime.min
    if kind == "text":
        # Whatever stands behind the day, texts of that day and later ones are not below it.
        return f"'{moment.date().isoformat()}'"
    return f"'{moment.isoformat(sep=' ')}'"


def _moment(value: date) -> datetime:
    """Return a date or a time, with the zone UTC where it names none."""
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _text_of(value: Any) -> str:
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode(errors="replace")
    return str(value)
