"""How much less an older rating counts, where the settings say so.

There are two clocks. Popularity fades by days, counted back from the latest of all ratings, and so
do wishes where `data.half_life_days` says so (`fading`). A user's own taste fades by what he has
rated since (`recency`): a user who comes back after a year is not a stranger, and what he rates
next follows from what he rated last. Exponential decay: Ding and Li 2005, 'Time weight
collaborative filtering'.

Neither looks at today's date: the same ratings give the same result whenever they are fitted. A
rating without a time counts as older than all that have one, as where two ratings of one pair are
compared. Where no rating has a time, nothing fades.
"""

import numpy as np
from numpy.typing import NDArray

from mf_core.config import Config
from mf_core.data.ratings import UNDATED, Float32s, Ratings
from mf_core.errors import QualityError

HALF_LIFE = "data.half_life_days"
"""The setting by which old wishes say less."""

_SECONDS_PER_DAY = 86_400
# Older ratings all weigh a millionth: items that were liked long ago keep an order among them.
_MOST_HALF_LIVES = 20
# What is left of a user's oldest rating. Less of it makes worse lists (docs/adr/0034-time.md).
_LEAST_RECENCY = 0.1


def fading(ratings: Ratings, half_life_days: float | None) -> Float32s | None:
    """Return what each rating counts: 1 for the latest, half of it every `half_life_days`.

    Args:
        ratings: all ratings that are counted.
        half_life_days: in days; None: nothing fades.

    Returns:
        float32 array of shape (n,), from 2^-20 to 1; None if nothing fades.
    """
    if half_life_days is None or ratings.rated_at is None:
        return None
    dated = ratings.rated_at[ratings.rated_at != UNDATED]
    if not len(dated):
        return None
    age = dated.max() - np.maximum(ratings.rated_at, dated.min())
    half_lives = age.astype(np.float32) / np.float32(half_life_days * _SECONDS_PER_DAY)
    return np.exp2(-np.minimum(half_lives, _MOST_HALF_LIVES))


def is_recent(ratings: Ratings, days: int) -> NDArray[np.bool_]:
    """Return which ratings were given less than `days` days before the latest of them; shape (n,).

    One without a time was not.
    """
    if ratings.rated_at is None or not len(ratings):
        return np.zeros(len(ratings), dtype=bool)
    dated = ratings.rated_at != UNDATED
    age = ratings.rated_at.max() - ratings.rated_at
    return dated & (age < days * _SECONDS_PER_DAY)


def recency(ratings: Ratings, half_life: float | None) -> Float32s | None:
    """Return what each rating counts in its user's list: 1 for his last, 0.1 for one long before.

        c = 0.1 + 0.9 * 2^(-later / half_life)

    Args:
        ratings: all ratings that the lists may know of.
        half_life: in ratings; `later` counts those that the same user gave at a later time. None:
            all count the same.

    Returns:
        float32 array of shape (n,); None if all count the same.
    """
    if half_life is None or ratings.rated_at is None:
        return None
    # As one number, a user's ratings stand together and in the order of their times.
    key = ratings.user.astype(np.uint64) << np.uint64(32) | ratings.rated_at
    up_to = np.searchsorted(np.sort(key), key, side="right")
    up_to_user = np.cumsum(np.bincount(ratings.user))
    later = (up_to_user[ratings.user] - up_to).astype(np.float32)

    left = np.exp2(-later / np.float32(half_life))
    return _LEAST_RECENCY + (1 - _LEAST_RECENCY) * left


def require_times(config: Config, ratings: Ratings) -> None:
    """Make sure that ratings which are to fade say when they were given.

    Raises:
        QualityError: a half-life is set, and no rating has a time.
    """
    if ratings.rated_at is not None:
        return
    half_lives = {
        HALF_LIFE: config.data.half_life_days,
        "ranking_head.recent_half_life": config.ranking_head.recent_half_life,
        "data.popular_half_life_days": config.data.popular_half_life_days,
    }
    for name, value in half_lives.items():
        if value is not None:
            raise QualityError(
                f"{name} is {value:g}, but no rating has a time. Set source.time_column, or leave "
                f"{name} empty."
            )
