"""What a row says of liking, said once: which rows are relevant, and what a learner aims at.

A rating says it on its scale. An event's weight has no scale: any positive weight says that the
user wanted the item, more of it says so more clearly, and a negative one says the opposite.
"""

import numpy as np
from numpy.typing import NDArray

from mf_core.config import DataConfig
from mf_core.data.ratings import Float32s

# Counts have long tails: above this share of the positive weights, more says nothing more.
_CLEAR = 95


def is_relevant(data: DataConfig, value: Float32s) -> NDArray[np.bool_]:
    """Return which ratings, or weights of events, count as relevant; array of the same shape."""
    if data.kind == "events":
        return np.asarray(value > 0)
    return np.asarray(value >= data.relevant_from)


def what_is_relevant(data: DataConfig) -> str:
    """Return in words what makes a row relevant."""
    if data.kind == "events":
        return "has a positive weight"
    return f"reaches data.relevant_from = {data.relevant_from:g}"


def targets(data: DataConfig, value: Float32s, lowest: float, negative: float = 0.0) -> Float32s:
    """Return what the score of each row aims at, float32 array of the shape of `value`.

    A rating aims at `lowest` at the scale's low end, at 1 at `data.relevant_from`, and on a line
    through both elsewhere. Where every rating is relevant there is no such line, and all targets
    are 1.

    Even the least weight of an event says that the user chose the item, so it aims at the middle
    between `lowest` and 1 at least, and at 1 where it is as clear as any (`_clearness`). 1 for
    `lowest` makes all positive weights alike. A negative one aims at `negative` times as much.
    """
    if data.kind == "events":
        least = (1 + lowest) / 2
        size = least + (1 - least) * _clearness(np.abs(value), value[value > 0])
        sign = np.where(value < 0, negative, np.sign(value))
        return (sign * size).astype(np.float32)
    span = data.relevant_from - data.scale_low
    if not span:
        return np.ones_like(value)
    return (1 + (1 - lowest) * (value - data.relevant_from) / span).astype(np.float32)


def _clearness(size: Float32s, positive: Float32s) -> Float32s:
    """Return how clearly weights speak, from 0 (no weight) to 1 (as much as any).

    In units of the median positive weight, so that seconds and minutes are the same, on a
    logarithmic scale up to the 95th percentile. Where all positive weights are equal, all are 1.
    """
    if not len(positive):
        return np.ones_like(size)
    unit, enough = np.percentile(positive, [50, _CLEAR])
    clear = np.log1p(size / unit) / np.log1p(enough / unit)
    return np.minimum(clear, 1).astype(np.float32)
