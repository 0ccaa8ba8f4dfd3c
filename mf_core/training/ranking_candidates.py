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

    Each learner's own settings are tried in the blend, and no learner is left out of it: with a
    share of a tenth it says little, and on other rows it may be the better one. How they are joined
    costs no fit.
    """
    head = config.ranking_head
    return [
        [{"ranking_head.item_prior": head.item_prior * factor} for factor in (0.1, 0.3)],
        [
            # A ridge of a half of the shipped one, and less of each item's own.
            {"ranking_head.item_dropout": 0.25, "ranking_head.item_prior": head.item_prior * 2},
            {"ranking_head.item_lowest_target": 0.35},
        ],
        # Rating patterns that hold little want a stronger ridge, and less weight of what is not
        # rated. Narrow tastes want the weight alone.
        [
            {
                "ranking_head.regularization": 4 * head.regularization,
                "ranking_head.unobserved_scale": head.unobserved_scale / 3,
            },
            {"ranking_head.unobserved_scale": head.unobserved_scale / 3},
        ],
        [{"ranking_head.item_share": share} for share in (0.1, 0.3, 0.7)],
        # What is popular now may be better than any taste.
        [
            *({"ranking_head.popular_ratings": ratings} for ratings in (1.0, 8.0)),
            POPULAR_LISTS,
        ],
    ]


def event_candidates(config: Config, train: Ratings) -> list[Alternatives]:
    """Return what weights of events may count for, in stages like `ranking_candidates`.

    Where positive ones differ, all the same or more of a difference; where there are some below 0,
    those against the item.
    """
    if config.data.kind != "events":
        return []
    stages: list[Alternatives] = []
    positive = train.value[train.value > 0]
    if len(positive) and positive.min() < positive.max():
        all_alike = {"ranking_head.lowest_target": 1.0, "ranking_head.item_lowest_target": 1.0}
        stages.append([all_alike, {"ranking_head.lowest_target": 0.0}])
    if (train.value < 0).any():
        stages.append([{"ranking_head.negative_target": target} for target in (-0.3, -1.0)])
    return stages


def recent_candidates(config: Config, train: Ratings) -> Alternatives:
    """Return half-lives of what a user has rated, in later ratings.

    There are none unless each user's last ratings judge: drawn rows are as old as a user's others
    and say nothing of what comes next, and after a cut through all ratings most users rate little.
    """
    if config.split.protocol != "leave_last" or train.rated_at is None:
        return []
    return [{"ranking_head.recent_half_life": later} for later in _RECENT_HALF_LIVES]
