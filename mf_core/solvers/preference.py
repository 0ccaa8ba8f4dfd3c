"""What the learners of the ranking head see: how much each user liked what they rated."""

from dataclasses import dataclass

from mf_core.config import Config, RankingHeadConfig
from mf_core.data.fading import fading, recency
from mf_core.data.ratings import Ratings
from mf_core.data.relevance import is_relevant, targets, what_is_relevant
from mf_core.errors import TrainingError
from mf_core.solvers.buckets import Side, both_sides, padding_note
from mf_core.solvers.solver import Problem


@dataclass(frozen=True)
class Preferences:
    """The targets of the ratings, on the device.

    Attributes:
        users, items: both sides of them.
        for_lists: the users' side that lists are made of: there a target counts less the more the
            user has rated since, if the settings say so (`mf_core.data.fading.recency`).

    With `data.half_life_days`, old targets are lower on all sides. On MovieLens that makes worse
    lists (docs/adr/0034-time.md), so it is for data of which somebody knows better.
    """

    users: Side
    items: Side
    for_lists: Side

    @staticmethod
    def of(problem: Problem[RankingHeadConfig], lowest: float) -> "Preferences":
        """Return what there is to learn from the ratings of `problem`.

        `lowest` is the target of what says least (`mf_core.data.relevance.targets`).
        """
        settings = problem.settings
        train = problem.ratings
        aims = targets(problem.data, train.value, lowest, settings.negative_target)
        by_age = fading(train, problem.data.half_life_days)
        if by_age is not None:
            aims = aims * by_age
        width = settings.n_factors
        aimed = Ratings(train.user, train.item, aims)
        users, items = both_sides(aimed, problem.shape, width, problem.workers)
        left = recency(train, settings.recent_half_life)
        if left is None:
            return Preferences(users, items, for_lists=users)
        faded = Side(
            train.user,
            train.item,
            aims * left,
            shape=problem.shape,
            width=width,
            workers=problem.workers,
        )
        return Preferences(users, items, for_lists=faded)

    def note(self) -> str:
        """Say how much of the batches is padding."""
        return padding_note(self.users, self.items)


def observations(config: Config, train: Ratings) -> Ratings:
    """Return the ratings that the ranking head learns from.

    What a user has chosen to rate tells of tastes even where nothing of it was liked.

    Raises:
        TrainingError: none of `train` is relevant.
    """
    relevant = is_relevant(config.data, train.value)
    if not relevant.any():
        advice = "Set data.relevant_from to what a good rating is on this scale."
        if config.data.kind == "events":
            advice = "Check what a type of event weighs (data.event_weights)."
        raise TrainingError(
            f"none of the {len(train):,} training {config.data.kind} "
            f"{what_is_relevant(config.data)}, so the ranking head has nothing to learn from. "
            f"{advice}"
        )
    return train.take(relevant) if config.ranking_head.learn_from == "relevant" else train
