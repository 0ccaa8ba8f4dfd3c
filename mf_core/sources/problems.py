"""What can be wrong with a row, and what to do where most bad rows have one cause."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


class Cause(Enum):
    """What a reason is about, with what to do if it is the most frequent one."""

    LINE = "Repair the source, or check source.delimiter"
    ENCODING = "Set source.encoding, such as cp1252, or save the file as UTF-8"
    ID = "Repair the source, or check source.user_column and source.item_column"
    RATING = "Repair the source, or check source.rating_column"
    SCALE = "Check data.scale_low and data.scale_high"
    TIME = "Repair the source, or check source.time_column, source.time_format and source.time_zone"
    FUTURE = (
        "Load it again once that time has come, or check source.time_column, source.time_format "
        "and source.time_zone"
    )
    EVENT = "Repair the source, or check source.event_column and source.weight_column"
    SIDE = "Repair the source, or check source.side_column"


@dataclass(frozen=True)
class Problem:
    """Which rows fail a check, the reason for the i-th row in words, and what it is about."""

    mask: Mask
    reason: Callable[[int], str]
    cause: Cause


def as_mask(values: Any) -> Mask:
    """Return an Arrow boolean array as NumPy's; Arrow keeps bits, so they are copied."""
    booleans = values.to_numpy(zero_copy_only=False)
    return np.asarray(booleans, dtype=bool)


def shown(values: Any, i: int) -> str:
    """Return the i-th value of an Arrow array of strings or of times in microseconds, as text."""
    value = values[i]
    if not pa.types.is_timestamp(values.type):
        return str(value.as_py())
    if not value.is_valid:
        return ""
    # Python has no date beyond the year 9999.
    written = str(np.datetime64(value.value, "us")).replace("T", " ").removesuffix(".000000")
    return written if values.type.tz is None else f"{written}Z"


def quoted(values: Any, i: int) -> str:
    """Return what `shown` returns in quotes, cut to 60 characters, for a reason."""
    return repr(shown(values, i))[:60]
