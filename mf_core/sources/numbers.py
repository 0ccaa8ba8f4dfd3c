"""Numbers written as text."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mf_core.sources.problems import Mask, as_mask

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def read_numbers(trimmed: Any) -> tuple[NDArray[np.float64], Mask]:
    """Return the values (NaN where `trimmed` is no number) and where it is one."""
    try:
        numbers = pc.cast(trimmed, pa.float64())
    except pa.ArrowInvalid:
        pass
    else:
        values = np.asarray(numbers.to_numpy(zero_copy_only=False))
        return values, np.ones(len(values), dtype=bool)

    # Arrow knows no leading plus and no overflow, so the few odd blocks go through Python.
    is_number = as_mask(pc.match_substring_regex(trimmed, _NUMBER))
    values = np.full(len(is_number), np.nan)
    texts = trimmed.filter(pa.array(is_number)).to_pylist()
    values[is_number] = [float(text) for text in texts]
    return values, is_number
