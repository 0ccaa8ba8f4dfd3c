"""Ages and durations, as people write and read them."""

import re
from datetime import timedelta

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
# Nine digits of days are the longest time that Python has.
_WRITTEN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([mhd])")


def parse_age(text: str) -> timedelta:
    """Return the duration that `26h`, `90m` or `1.5d` stands for.

    Raises:
        ValueError: it is no number with one of the units m, h and d.
    """
    written = _WRITTEN.fullmatch(text.strip())
    if written is None:
        raise ValueError(
            f"expected a number with a unit (90m, 26h or 1.5d; m: minutes, h: hours, d: days), "
            f"got {text!r}"
        )
    number, unit = written.groups()
    return timedelta(**{_UNITS[unit]: float(number)})


def age_in_words(age: timedelta) -> str:
    """Return an age to two digits or so: `40 seconds`, `12 minutes`, `31 hours`, `9 days`."""
    seconds = max(int(age.total_seconds()), 0)
    if seconds < 90:
        return _counted(seconds, "second")
    if seconds < 90 * 60:
        return _counted(seconds // 60, "minute")
    # "31 hours" says more than "1 day" to somebody who waits for a nightly run.
    if seconds < 72 * 3600:
        return _counted(seconds // 3600, "hour")
    return _counted(seconds // 86400, "day")


def _counted(number: int, unit: str) -> str:
    return f"{number:,} {unit}" if number == 1 else f"{number:,} {unit}s"
