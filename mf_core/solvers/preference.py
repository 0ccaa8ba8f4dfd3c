"""What the learners of the ranking head see: how much each user liked what they rated."""

from dataclasses import dataclass

import numpy as np

from mf_core.config import Config, DataConfig, RankingHeadConfig
from mf_core.data.fading import recency
from mf_core.data.ratings import Float32s, Ratings
from mf_core.errors import TrainingError
from mf_core.solvers.buckets import Side, both_sides, padding_note
from mf_core.solvers.solver import Problem


@dataclass(frozen=True)
class Preferences:
    """The targets of the ratings, on the device.

    Attributes:
        users, items: both sides of them.
        for_lists: the users' side that lists are made of: there an older target counts less, if the
            settings say so (`mf_core.data.fading.recency`). Fading the targets that a fit aims at
            makes worse lists (docs/adr/0034-time.md).
    """

    users: Side
    items: Side
    for_lists: Side

    @staticmethod
    def of(problem: Problem[RankingHeadConfig], lowest: float) -> "Preferences":
        """Return what there is to learn from the ratings of `problem`.

        `lowest` is the target of the scale's lowest rating.
        """
        settings = problem.settings
        train = problem.ratings
        targets = preference_targets(train.value, lowest, problem.data)
        width = settings.n_factors
        users, items = both_sides(
            Ratings(train.user, train.item, targets), problem.shape, width=width
        )
        left = recency(train, settings.recent_half_life)
        if left is None:
            return Preferences(users, items, for_lists=users)
        faded = Side(
            train.user, train.item, targets * left, shape=problem.shape, width=settings.n_factors
        )
        return Preferences(users, items, for_lists=faded)

    def note(self) -> str:
        """Say how much of the batches is padding."""
        return padding_note(self.users, self.items)


def preference_targets(rating: Float32s, lowest: float, data: DataConfig) -> Float32s:
    """Return the target of each rating, float32 array of the shape of `rating`.

    It is `lowest` at the scale's low end, 1 at `data.relevant_from`, and on a line through both
    elsewhere. Where every rating is relevant there is no such line, and all targets are 1.
    """
    span = data.relevant_from - data.scale_low
    if not span:
        return np.ones_like(rating)
    return (1 + (1 - lowest) * (rating - data.relevant_from) / span).astype(np.float32)


def observations(config: Config, train: Ratings) -> Ratings:
    """Return the ratings that the ranking head learns from.

    What a user has chosen to rate tells of tastes even where nothing of it was liked.

    Raises:
        TrainingError: none of `train` is relevant.
    """
    relevant = train.value >= config.data.relevant_from
    if not relevant.any():
        raise TrainingError(
            f"none of the {len(train):,} training ratings reaches data.relevant_from = "
            f"{config.data.relevant_from:g}, so the ranking head has nothing to learn from. Set "
            "data.relevant_from to what a good rating is on this scale."
        )
    return train.take(relevant) if config.ranking_head.learn_from == "relevant" else train
