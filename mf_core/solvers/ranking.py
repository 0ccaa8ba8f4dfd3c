"""The ranking head's solver: implicit ALS, the item-item learner, or both in one factor model.

A blend adds both learners' scores in standard deviations of each user's scores over the items, with
`item_share` as the weight of the item-item learner's. Of any score of a user only the order counts,
so a user's rows are multiplied by what leaves the factors of ALS as they are: a later fit can start
from them. Side by side the factors of both are one factor model.

Of a user with n ratings, few, the popular items are a better guess than either learner. They are
one more column: the counts of relevant ratings, standardized, weigh

    exp(-(n - 1) / popular_ratings)

standard deviations of the user's scores: as much as the learner for one rating, hardly anything
from some tens on.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mf_core.config import DataConfig, RankingHeadConfig, SolverConfig
from mf_core.data.ratings import Float32s, Float64s, Ratings
from mf_core.models.baselines import relevant_counts
from mf_core.models.factors import divided, score_spread
from mf_core.solvers.implicit import ImplicitAls
from mf_core.solvers.item_item import ItemItem
from mf_core.solvers.preference import Preferences
from mf_core.solvers.solver import COLUMN_BYTES, Arrays, Factors, Problem, Solver

Tables = tuple[Float32s, Float32s]
"""The factors of users and of items."""

# Similar items go by the items' factors, in which popularity should have no say. What an item's
# column has too little, the users' has too much.
_POPULARITY_LENGTH = 1e-3


class RankingLists(Solver):
    """The learners that the settings name, an iteration of each at a time."""

    unit = "sweep"

    def __init__(self, problem: Problem[RankingHeadConfig]) -> None:
        """Put the observed pairs on the device."""
        super().__init__(problem)
        settings = problem.settings
        self._problem = problem
        self._learners: dict[str, ImplicitAls | ItemItem] = {}
        if settings.learner != "item_item":
            preferences = Preferences.of(problem, settings.lowest_target)
            self._learners["als"] = ImplicitAls(problem, preferences)
        if settings.learner != "als":
            preferences = Preferences.of(problem, settings.item_lowest_target)
            self._learners["item_item"] = ItemItem(preferences, settings, problem.seed)
        self.note = preferences.note()

    @classmethod
    def bytes_per_row(cls, settings: SolverConfig, shape: tuple[int, int]) -> int:
        """Return what a fit holds in memory for each user and item, beside ratings and batches.

        That is 24 bytes for each factor of either learner.
        """
        assert isinstance(settings, RankingHeadConfig)
        n_factors = settings.n_factors if settings.learner != "item_item" else 0
        if settings.learner != "als":
            n_factors += min(settings.item_factors, *shape)
        return COLUMN_BYTES * (n_factors + 1)

    def iterate(self, iteration: int) -> float:
        """Run one iteration of each learner that has one left; return the error of the first."""
        errors = [
            learner.iterate() for learner in self._learners.values() if iteration < learner.limit
        ]
        return errors[0]

    def closing_note(self) -> str:
        """Say what it costs to hold the item-item weights in factors."""
        return "; ".join(filter(None, (learner.note() for learner in self._learners.values())))

    def state(self) -> Arrays:
        """Return all that the next iteration depends on."""
        state: Arrays = {}
        for learner in self._learners.values():
            state |= learner.state()
        return state

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        for learner in self._learners.values():
            learner.restore(state)

    def factors(self) -> Factors:
        """Return the arrays of all learners as those of one model; biases and mean are 0."""
        tables = {}
        for name, learner in self._learners.items():
            user, item = learner.factors()
            tables[name] = (user.numpy(), item.numpy())
        problem = self._problem
        return Factors.without_biases(
            *joined(problem.settings, problem.data, problem.ratings, tables)
        )


def joined(
    settings: RankingHeadConfig,
    data: DataConfig,
    observed: Ratings,
    tables: Mapping[str, Tables],
) -> Tables:
    """Return the factors of one model: the learners' side by side, then the popular items.

    Args:
        settings: `item_share` and `popular_ratings` say what counts how much.
        data: says what popularity is.
        observed: the ratings that the learners have seen.
        tables: the factors of `als`, of `item_item` or of both.
    """
    user, item = next(iter(tables.values()))
    listed = np.bincount(observed.item, minlength=len(item)) > 0
    spread = score_spread(user, item[listed])
    if len(tables) > 1:
        other_user, other_item = tables["item_item"]
        ratio = settings.item_share / (1 - settings.item_share)

        # Both in standard deviations of the user's scores, times those of ALS.
        weight = ratio * divided(spread, score_spread(other_user, other_item[listed]))
        # Similar items go by the items' factors: there the two shall count as they do in scores.
        norms = [float(np.linalg.norm(table)) for table in (item, other_item)]
        length = ratio * norms[0] / norms[1] if all(norms) else 1.0
        user = np.hstack([user, other_user * (weight / length)[:, None]])
        item = np.hstack([item, other_item * length])
        spread = score_spread(user, item[listed])

    if settings.popular_ratings:
        rated = np.bincount(observed.user, minlength=len(user))
        weight = np.exp((1 - np.maximum(rated, 1)) / settings.popular_ratings)
        popular = _standardized(relevant_counts(data, observed, len(item)), listed)
        user = np.column_stack([user, spread * weight / _POPULARITY_LENGTH])
        item = np.column_stack([item, popular * _POPULARITY_LENGTH])
    return user.astype(np.float32), item.astype(np.float32)


def _standardized(counts: Float64s, listed: NDArray[np.bool_]) -> Float64s:
    """Return counts in standard deviations over the listed items, 0 for the others."""
    spread = counts[listed].std()
    if not spread:
        return np.zeros_like(counts)
    return (counts - counts[listed].mean()) / spread * listed
