"""What a search tries for the ranking head."""

from typing import Any

from mf_core.config import Config
from mf_core.data.ratings import Ratings

Alternatives = list[dict[str, Any]]

_RECENT_HALF_LIVES = (5.0, 20.0)
# The popular items come first in everybody's list.
POPULAR_LISTS: dict[str, Any] = {"ranking_head.popular_ratings": 1_000.0}


def ranking_candidates(config: Config) -> list[Alternatives]:
    """Return the alternatives, in stages that are tried one after the other on the best so far.

    Each learner's own settings are tried in the blend, so that either may win in the end. How they
    are joined costs no fit.
    """
    head = config.ranking_head
    shares = [{"ranking_head.item_share": share} for share in (0.3, 0.5, 0.7, 0.85)]
    return [
        [{"ranking_head.item_prior": head.item_prior * factor} for factor in (0.1, 0.3)],
        [
            # Ridges of a sixth to a half of the shipped one, and less of each item's own.
            *(
                {
                    "ranking_head.item_dropout": 0.25,
                    "ranking_head.item_prior": head.item_prior * factor,
                }
                for factor in (0.5, 2.0)
            ),
            {"ranking_head.item_lowest_target": 0.35},
        ],
        shares,
        # Rating patterns that hold little want a stronger ridge, and less weight of what is not
        # rated.
        [
            {"ranking_head.regularization": 2 * head.regularization},
            {
                "ranking_head.regularization": 4 * head.regularization,
                "ranking_head.unobserved_scale": head.unobserved_scale / 3,
            },
        ],
        [{"ranking_head.lowest_target": 0.7}],
        [{"ranking_head.learner": learner} for learner in ("als", "item_item")] + shares,
        # What is popular now may be better than any taste.
        [
            *({"ranking_head.popular_ratings": ratings} for ratings in (None, 1.0, 8.0, 30.0)),
            POPULAR_LISTS,
        ],
    ]


def recent_candidates(config: Config, train: Ratings) -> Alternatives:
    """Return half-lives of what a user has rated, in later ratings.

    There are none unless each user's last ratings judge: drawn rows are as old as a user's others
    and say nothing of what comes next, and after a cut through all ratings most users rate little.
    """
    if config.split.protocol != "leave_last" or train.rated_at is None:
        return []
    return [{"ranking_head.recent_half_life": later} for later in _RECENT_HALF_LIVES]
