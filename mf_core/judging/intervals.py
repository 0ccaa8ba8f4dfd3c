"""How far intervals around predicted ratings have to reach.

A normal interval takes 1.645 standard deviations either side to hold 90% of the ratings. Ratings on
few levels, most of them at an end of the scale, are not normal, and the same reach holds more or
fewer of them. So the reach is measured, on ratings that the model never saw: split conformal
prediction with normalised errors (Papadopoulos et al. 2002, 'Inductive confidence machines for
regression'; Lei et al. 2018, 'Distribution-free predictive inference for regression').
"""

import math

import numpy as np
from numpy.typing import NDArray

from mf_core.data.ratings import Float64s


def normalised_errors(error: Float64s, deviation: Float64s) -> Float64s:
    """Return absolute errors in predicted standard deviations, both of shape (n,).

    Where the standard deviation is 0, an error is infinitely many of them, and none is 0.
    """
    normalised = np.full(len(error), np.inf)
    np.divide(error, deviation, out=normalised, where=deviation > 0)
    normalised[error == 0] = 0.0
    return normalised


def interval_reach(normalised: Float64s, share: float) -> float:
    """Return how many standard deviations either side hold a `share` of ratings to come.

    Args:
        normalised: of ratings that the model never saw, of shape (n,), n > 0.
        share: between 0 and 1.
    """
    # One place more than the share of those at hand: the rating to come is another one.
    wanted = math.ceil((len(normalised) + 1) * share)
    place = min(wanted, len(normalised)) - 1
    return float(np.partition(normalised, place)[place])


def within_interval(normalised: Float64s, share: float) -> NDArray[np.bool_]:
    """Return which ratings lie within the interval that the others give; shape (n,).

    Every second rating is judged by the reach of those between, so that none is judged by itself.
    """
    if len(normalised) < 2:
        return np.ones(len(normalised), dtype=bool)
    within = np.empty(len(normalised), dtype=bool)
    for first in (0, 1):
        reach = interval_reach(normalised[1 - first :: 2], share)
        within[first::2] = normalised[first::2] <= reach
    return within
