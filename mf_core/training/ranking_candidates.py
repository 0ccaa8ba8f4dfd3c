"""What a search tries for the ranking head."""

import math
from typing import Any

from mf_core.config import Config
from mf_core.data.ratings import Ratings

# In units of the root of the density, where one value holds for catalogues of all sizes.
_UNOBSERVED = (0.45, 0.9, 1.8)
_RIDGES = (1 / 3, 3.0)
_RECENT_HALF_LIVES = (5.0, 20.0)
_LOWEST_TARGETS = (0.0, 0.7)


def ranking_candidates(
    config: Config, n_ratings: int, shape: tuple[int, int]
) -> list[list[dict[str, Any]]]:
    """Return the alternatives, in stages that are tried one after the other on the best so far.

    Args:
        config: the settings that the search begins at.
        n_ratings: how many ratings the head learns from.
        shape: the numbers of users and items that have one.
    """
    n_users, n_items = shape
    density = n_ratings / (n_users * n_items)
    weights = [factor * math.sqrt(density) for factor in _UNOBSERVED]
    ridges = [factor * config.ranking_head.regularization for factor in _RIDGES]
    return [
        [{"ranking_head.unobserved_weight": _rounded(weight)} for weight in weights],
        [{"ranking_head.regularization": _rounded(ridge)} for ridge in ridges],
        [{"ranking_head.lowest_target": target} for target in _LOWEST_TARGETS],
    ]


def recent_candidates(config: Config, train: Ratings) -> list[dict[str, Any]]:
    """Return half-lives of what a user has rated, in later ratings.

    There are none unless each user's last ratings judge: drawn rows are as old as a user's others
    and say nothing of what comes next, and after a cut through all ratings most users rate little.
    """
    if config.split.protocol != "leave_last" or train.rated_at is None:
        return []
    return [{"ranking_head.recent_half_life": later} for later in _RECENT_HALF_LIVES]


def _rounded(value: float) -> float:
    """Return `value` with three digits: more of them would say nothing."""
    return float(f"{value:.3g}")
