"""Times of ratings, from text or typed, into microseconds since 1970 UTC.

A number is read in the unit that puts it between 1990 and now, which can be one only: the units are
a thousand apart, and 1990 is not a third of now. Times without a zone are read in
`source.time_zone`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mf_core.sources.ids import MISSING
from mf_core.sources.numbers import read_numbers
from mf_core.sources.problems import Cause, Mask, Problem, as_mask, quoted, shown

UNKNOWN_TIME = np.iinfo(np.int64).min
"""Stands for a time that the source does not say."""

_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
# Microseconds of a second, a millisecond, a microsecond and a nanosecond.
_FACTORS = (1e6, 1e3, 1.0, 1e-3)
# From here on a number is in milliseconds, microseconds and nanoseconds: it would be in 5138.
_FROM = (1e11, 1e14, 1e17)
# As a number of any unit these lie before 1990 or far ahead, so they can't be taken for one.
_COMPACT_DATES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
# An int64 holds so many microseconds; it lies far outside the dates allowed.
_LARGEST_US = 1e18
# Three centuries: what lies further off is wrong in any zone.
_CENTURIES_US = 10**16
_ZONE = r"[T ][0-9]{2}.*([Zz]|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?)$"
_UTC = r" ?(?:UTC|GMT)$"
# No zone is further ahead of UTC.
_FURTHEST_AHEAD = timedelta(hours=14)
# MySQL's way to say that there is none.
_NO_TIMES = pa.array([*MISSING.to_pylist(), "0000-00-00", "0000-00-00 00:00:00"])
_SPREADSHEET_DAYS = (30_000, 60_000)
_YEARS = (1900, 2100)


@dataclass(frozen=True)
class Clock:
    """How times are read.

    Attributes:
        now: later times are wrong.
        zone: the zone of times that name none.
        format: how times are written, in the words of strptime; empty: ISO 8601 or epochs.
    """

    now: datetime
    zone: str = "UTC"
    format: str = ""


@dataclass(frozen=True)
class _Times:
    """Times as they were read.

    Attributes:
        us: int64 array of shape (n,), microseconds since 1970 UTC.
        unreadable: where the source says something that is no time.
        local: where it names no zone, so that `Clock.zone` decided.
    """

    us: NDArray[np.int64]
    unreadable: Mask
    local: Mask


def check_times(times: Any | None, clock: Clock, n: int) -> tuple[NDArray[np.int64], list[Problem]]:
    """Return the times in microseconds since 1970 UTC, and what is wrong with them.

    Args:
        times: Arrow array of shape (n,), of strings or of timestamps in microseconds; None: the
            source has none.
        clock: how they are read.
        n: the number of rows.
    """
    if times is None:
        return np.full(n, UNKNOWN_TIME), []
    if pa.types.is_timestamp(times.type):
        read = _typed(times, clock)
    else:
        times = pc.utf8_trim_whitespace(times)
        read = _written(times, clock)
    return read.us, _problems(times, read, clock)


def _problems(times: Any, read: _Times, clock: Clock) -> list[Problem]:
    known = read.us != UNKNOWN_TIME
    earliest = _microseconds_of(_EARLIEST)
    now = _microseconds_of(clock.now)
    too_early = known & (read.us < earliest)
    too_late = known & (read.us > now)
    ahead = _FURTHEST_AHEAD / timedelta(microseconds=1)
    perhaps_local = too_late & read.local & (read.us <= now + ahead)

    def local_reason(i: int) -> str:
        """Return the reason with how far ahead it lies, which is the zone's difference or less."""
        hours = (int(read.us[i]) - now) / 3.6e9
        return (
            f"the date {quoted(times, i)} lies {hours:.1f} h in the future; it names no zone and "
            f"was read in {clock.zone}: is it a local time (source.time_zone)?"
        )

    def early_reason(i: int) -> str:
        """Return the reason with what the number looks like."""
        return f"the date {quoted(times, i)} lies before 1990{_looks_like(shown(times, i))}"

    expected = "neither epoch seconds nor ISO 8601"
    if clock.format:
        expected = f"not written as source.time_format {clock.format!r} says"
    return [
        Problem(
            read.unreadable, lambda i: f"the date {quoted(times, i)} is {expected}", Cause.TIME
        ),
        Problem(too_early, early_reason, Cause.TIME),
        Problem(perhaps_local, local_reason, Cause.FUTURE),
        Problem(
            too_late, lambda i: f"the date {quoted(times, i)} lies in the future", Cause.FUTURE
        ),
    ]


def _looks_like(text: str) -> str:
    """Return what a number that is no epoch looks like, in words; "" if it looks like nothing."""
    try:
        number = float(text)
    except ValueError:
        return ""
    if _YEARS[0] <= number <= _YEARS[1]:
        return "; it looks like a year"
    if _SPREADSHEET_DAYS[0] <= number <= _SPREADSHEET_DAYS[1]:
        return "; it looks like a spreadsheet's day number"
    return ""


def _typed(times: Any, clock: Clock) -> _Times:
    """Return timestamps; those without a zone are local times of the clock's zone."""
    unknown = as_mask(pc.is_null(times))
    is_local = times.type.tz is None
    # The type with a zone counts from 1970 UTC as well.
    us = pc.fill_null(pc.cast(times, pa.int64()), 0).to_numpy(zero_copy_only=False)
    us = us.astype(np.int64)
    # As 0 in a text.
    unknown |= us == 0
    local = np.full(len(us), is_local)
    us = np.where(local, _to_utc(us, clock), us)
    us[unknown] = UNKNOWN_TIME
    return _Times(us, np.zeros(len(us), dtype=bool), local)


def _written(trimmed: Any, clock: Clock) -> _Times:
    """Return times given as text."""
    n = len(trimmed)
    us = np.full(n, UNKNOWN_TIME)
    local = np.zeros(n, dtype=bool)
    unreadable = np.zeros(n, dtype=bool)

    # What means a missing id means an unknown time, as 0 does.
    unknown = as_mask(pc.is_in(trimmed, value_set=_NO_TIMES))
    filled = pc.if_else(pa.array(unknown), "0", trimmed) if unknown.any() else trimmed
    if clock.format:
        words = ~unknown
    else:
        numbers, is_number = read_numbers(filled)
        unreadable |= ~np.isfinite(numbers)
        us, local = _epochs(np.where(unreadable, 0.0, numbers), clock)
        words = ~is_number

    rest = np.flatnonzero(words)
    if len(rest):
        texts = trimmed.take(pa.array(rest))
        us[rest], local[rest] = _dates(texts, clock)
        unreadable[rest] = us[rest] == UNKNOWN_TIME
    return _Times(us, unreadable, local)


def _epochs(numbers: NDArray[np.float64], clock: Clock) -> tuple[NDArray[np.int64], Mask]:
    """Return finite numbers as times, each in the unit that fits, and which name no zone."""
    earliest = _microseconds_of(_EARLIEST)
    latest = _microseconds_of(clock.now + _FURTHEST_AHEAD)

    # One that no unit fits is wrong; its size says what it was meant to be.
    meant = np.digitize(np.abs(numbers), _FROM)
    us = numbers * np.array(_FACTORS)[meant]
    fits = np.zeros(len(numbers), dtype=bool)
    for factor in _FACTORS:
        candidate = numbers * factor
        is_this = ~fits & (candidate >= earliest) & (candidate <= latest)
        us[is_this] = candidate[is_this]
        fits |= is_this
    # An int64 would wrap.
    rounded = np.round(np.clip(us, -_LARGEST_US, _LARGEST_US)).astype(np.int64)
    rounded[numbers == 0] = UNKNOWN_TIME

    compact = np.zeros(len(numbers), dtype=bool)
    odd = np.flatnonzero(~fits & (numbers > 0) & (numbers == np.floor(numbers)))
    if len(odd):
        dates = _compact(numbers[odd])
        found = dates != UNKNOWN_TIME
        compact[odd[found]] = True
        rounded[odd[found]] = _to_utc(dates[found], clock)
    return rounded, compact


def _compact(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return whole numbers such as 20200417 as dates, unknown where they are none."""
    us = np.full(len(numbers), UNKNOWN_TIME)
    for digits, written in _COMPACT_DATES.items():
        long_enough = numbers >= 10 ** (digits - 1)
        short_enough = numbers < 10**digits
        of_this = np.flatnonzero(long_enough & short_enough)
        if not len(of_this):
            continue
        whole = numbers[of_this].astype(np.int64)
        texts = pd.Series(whole).astype(str)
        dates = pd.to_datetime(texts, format=written, errors="coerce", utc=True)
        us[of_this] = _as_us(dates)
    return us


def _dates(texts: Any, clock: Clock) -> tuple[NDArray[np.int64], Mask]:
    """Return written dates as times (unknown: no date), and which of them name no zone."""
    series = pd.Series(texts.to_pylist(), dtype=object)
    us = np.full(len(series), UNKNOWN_TIME)
    local = ~as_mask(pc.match_substring_regex(texts, _ZONE))
    if clock.format:
        dates = pd.to_datetime(series, format=clock.format, errors="coerce", utc=True)
        us = _as_us(dates)
        local = np.where(us == UNKNOWN_TIME, local, "%z" not in clock.format.lower())

    # ISO 8601 can't be mistaken for another format, and databases give it whatever is set.
    rest = us == UNKNOWN_TIME
    if rest.any():
        us[rest] = _iso(series[rest].str.replace(_UTC, "Z", regex=True))
    return np.where(local & (us != UNKNOWN_TIME), _to_utc(us, clock), us), local


def _iso(series: Any) -> NDArray[np.int64]:
    """Return ISO 8601 dates in microseconds since 1970, those without a zone as if in UTC."""
    us = _as_us(pd.to_datetime(series, format="ISO8601", errors="coerce", utc=True))
    # pandas counts nanoseconds, which end in 2262.
    for i in np.flatnonzero(us == UNKNOWN_TIME).tolist():
        us[i] = _far_date(series.iloc[i])
    return us


def _far_date(text: str) -> int:
    """Return a date of the years 1 to 9999 in microseconds since 1970; unknown: it is none."""
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return int(UNKNOWN_TIME)
    return _microseconds_of(date if date.tzinfo else date.replace(tzinfo=UTC))


def _as_us(dates: Any) -> NDArray[np.int64]:
    """Return pandas' dates in microseconds since 1970; unknown: not a time."""
    parsed = dates.to_numpy(dtype="datetime64[us]")
    return np.where(np.isnat(parsed), UNKNOWN_TIME, parsed.astype(np.int64))


def _to_utc(us: NDArray[np.int64], clock: Clock) -> NDArray[np.int64]:
    """Return local times of the clock's zone in UTC.

    An hour that comes twice is taken as the second one, and one that is left out as the next that
    there is. What lies centuries away stays as it is.
    """
    if clock.zone == "UTC":
        return us
    near = (us > -_CENTURIES_US) & (us < _CENTURIES_US)
    times = pd.DatetimeIndex(us[near].astype("datetime64[us]"))
    known = times.tz_localize(
        clock.zone, ambiguous=np.zeros(len(times), dtype=bool), nonexistent="shift_forward"
    )
    converted = us.copy()
    converted[near] = known.tz_convert("UTC").tz_localize(None).to_numpy("datetime64[us]")
    return converted


def _microseconds_of(time: datetime) -> int:
    """Return a time with a zone in microseconds since 1970."""
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1)
