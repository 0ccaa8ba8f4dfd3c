"""What a search tries for the ranking head."""

import math
from typing import Any

from mf_core.config import Config

# In units of the root of the density, where one value holds for catalogues of all sizes.
_UNOBSERVED = (0.45, 0.9, 1.8)
_RIDGES = (1 / 3, 3.0)
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


def _rounded(value: float) -> float:
    """Return `value` with three digits: more of them would say nothing."""
    return float(f"{value:.3g}")
